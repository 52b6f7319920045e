"""The protocols of models; that a family fits them is also checked by the type checker, which reads this file."""

from lavis.models.base import TrainableModel
from lavis.models.sevila.model import SeViLA
from tests.unit.models.tiny import CONFIG


def test_a_model_has_all_that_the_runner_needs() -> None:
    model: TrainableModel = SeViLA.untrained(CONFIG)

    wanted = {name for kind in TrainableModel.__mro__[:3] for name in vars(kind) if not name.startswith("_")}

    assert {"load_partial", "answer_loss", "as_scorer"} <= wanted
    assert [name for name in sorted(wanted) if not hasattr(model, name)] == []
