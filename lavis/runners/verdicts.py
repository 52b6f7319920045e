"""From `run.frozen_verdicts` to what a run remembers of its frozen role."""

import hashlib
import json
from dataclasses import asdict

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.models.sevila.model import SeViLA
from lavis.runners.config import RunConfig, TrainConfig
from lavis.runners.evaluation.fingerprint import weights_digest
from lavis.tasks.objectives.verdicts import FreshVerdicts, RememberedVerdicts, Verdicts


def build_verdicts(config: TrainConfig, model: SeViLA, world: World) -> Verdicts:
    """Build what answers for the frozen role; to be called before anything trains.

    Raises:
        ConfigError: verdicts cannot be remembered under the other settings.
    """
    if config.run.frozen_verdicts == "fresh":
        return FreshVerdicts()
    _check(config.run)
    # The first process's weights become those of all.
    return RememberedVerdicts(origin=world.gather(_origin(config, model))[0])


def _check(run: RunConfig) -> None:
    if run.published_quirks:
        raise ConfigError(
            "run.frozen_verdicts=remembered needs verdicts that do not change, and with run.published_quirks frozen "
            "parts drop out and train; set one of them to its default"
        )
    if run.distributed == "fsdp":
        raise ConfigError(
            "run.frozen_verdicts=remembered lets each process skip passes, and with run.distributed=fsdp all must run "
            "the same; set one of them to its default"
        )


def _origin(config: TrainConfig, model: SeViLA) -> str:
    """Return a digest of all that verdicts depend on beside question and frame."""
    run = config.run
    facts = {
        "weights": weights_digest(model),
        "precision": run.amp_dtype if run.amp else None,
        "datasets": {
            name: [dataset.prompt, asdict(dataset.vis_processor.train), asdict(dataset.build_info.videos)]
            for name, dataset in config.datasets.items()
        },
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
