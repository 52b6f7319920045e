import pytest

from lavis.common.errors import ConfigError
from lavis.common.files import configs_dir
from lavis.models.sevila.model import SeViLA
from lavis.runners.build import num_iterations, stages_in_order, unfreeze_as_published
from lavis.runners.config import TrainConfig, load_train_config
from lavis.tasks.build import PUBLISHED_TASKS
from tests.unit.models.tiny import CONFIG


@pytest.fixture
def recipes() -> list[TrainConfig]:
    loaded = []
    for name, finetuned in (("refine", "[pre/best]"), ("finetune", "pre/best")):
        options = [f"run.output_dir=out/{name}", f"model.finetuned={finetuned}"]
        loaded.append(load_train_config(configs_dir() / "sevila" / name / "nextqa.yaml", options=options))
    return loaded


def test_each_stage_starts_from_the_best_of_those_before(recipes: list[TrainConfig]) -> None:
    runs = [(run.run.output_dir, run.model.finetuned) for run in stages_in_order(recipes)]
    assert runs == [("out/refine", ["pre/best"]), ("out/finetune", ["pre/best", "out/refine/best"])]


def test_rounds_hand_on_the_newest_of_every_stage(recipes: list[TrainConfig]) -> None:
    runs = list(stages_in_order(recipes, iterations=2))
    assert [run.run.output_dir for run in runs] == [
        *("out/refine/round1", "out/finetune/round1", "out/refine/round2", "out/finetune/round2"),
    ]
    assert runs[2].model.finetuned == ["pre/best", "out/refine/round1/best", "out/finetune/round1/best"]
    assert runs[3].model.finetuned == ["pre/best", "out/refine/round2/best", "out/finetune/round1/best"]
    assert runs[3].resolved["model"]["finetuned"] == runs[3].model.finetuned
    assert runs[3].resolved["run"]["output_dir"] == "out/finetune/round2"


def test_impossible_rounds_are_refused(recipes: list[TrainConfig]) -> None:
    with pytest.raises(ConfigError, match=r"--iterations is 0"):
        list(stages_in_order(recipes, iterations=0))
    with pytest.raises(ConfigError, match=r"two recipes write to out/refine"):
        list(stages_in_order([recipes[0], recipes[0]]))


def test_recipes_may_ask_for_rounds(recipes: list[TrainConfig]) -> None:
    path = configs_dir() / "sevila" / "refine" / "nextqa.yaml"
    twice, thrice = (load_train_config(path, options=[f"run.iterations={count}"]) for count in (2, 3))
    assert num_iterations(recipes) == 1
    assert num_iterations([*recipes, twice]) == 2
    with pytest.raises(ConfigError, match=r"the recipes have run.iterations 2 and 3; give all the same"):
        num_iterations([twice, thrice])


def test_a_model_without_published_code_has_no_published_quirks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SeViLA.untrained(CONFIG)
    monkeypatch.setattr(model, "published_names", dict)

    with pytest.raises(
        ConfigError, match=r"run\.published_quirks .* there is none of the model small; set it to false"
    ):
        unfreeze_as_published(model, PUBLISHED_TASKS["train_qa_vid"])
