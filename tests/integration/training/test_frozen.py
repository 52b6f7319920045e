"""Runs that keep what the frozen role says and sees end as runs that ask it in every epoch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lavis.common.distributed import World
from lavis.common.errors import ConfigError
from lavis.runners.build import build_runner
from lavis.runners.checkpoint import WEIGHTS, strip_prefix
from lavis.runners.config import TrainConfig, load_train_config
from tests.faults.playing import tensors_of
from tests.integration.training.tiny_run import options, recipe

EPOCH = 4  # steps
KEEPING = {"frozen_verdicts": "fresh", "frame_cache": "cache"}


def config_of(stage: str, data: Path, model: Path, output: Path, *, frames: str, **run: object) -> TrainConfig:
    settings = {"test_splits": "[]", "valid_splits": "[]", "max_epoch": 3, "frozen_verdicts": "remembered", **run}
    given = options(stage, data=data, model=model, output=output, **settings)
    return load_train_config(recipe(stage), options=[*given, f"datasets.nextqa.vis_processor.train.name={frames}"])


def train(stage: str, data: Path, model: Path, output: Path, *, frames: str = "blip_video_eval", **run: object) -> None:
    build_runner(config_of(stage, data, model, output, frames=frames, **run), World()).run()


def weights(output: Path) -> dict[str, torch.Tensor]:
    return strip_prefix(WEIGHTS, tensors_of(max((output / "checkpoints").glob("step_*"))))


def reused(output: Path) -> list[float | None]:
    """The share of verdicts that each step looked up."""
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [row.get("reused") for row in rows if row["kind"] == "train"]


@pytest.mark.parametrize("stage", ["refine", "finetune"])
def test_uniform_frames_are_asked_about_in_the_first_epoch_only_and_teach_the_same(
    stage: str, data: Path, steady_model_folder: Path, tmp_path: Path
) -> None:
    places = (data, steady_model_folder)
    train(stage, *places, tmp_path / "fresh", frozen_verdicts="fresh")
    train(stage, *places, tmp_path / "remembered")
    assert reused(tmp_path / "fresh") == [None] * 3 * EPOCH
    assert reused(tmp_path / "remembered") == [0.0] * EPOCH + [1.0] * 2 * EPOCH
    fresh, remembered = weights(tmp_path / "fresh"), weights(tmp_path / "remembered")
    for name, value in fresh.items():
        # Fewer frames in a call of the vision tower may change the last bit.
        assert torch.allclose(value, remembered[name], rtol=0, atol=1e-6), name


def test_random_frames_are_rarely_seen_again(data: Path, steady_model_folder: Path, tmp_path: Path) -> None:
    train("refine", data, steady_model_folder, tmp_path, frames="blip2_video_train")
    shares = reused(tmp_path)
    assert shares[:EPOCH] == [0.0] * EPOCH
    assert 0 < sum(shares) < EPOCH


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(("stage", "stop_at"), [("refine", EPOCH + 2), ("finetune", 2)])
def test_a_stopped_run_goes_on_with_what_it_knew(
    stage: str, stop_at: int, data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = (data, model_folder)
    # Of random frames some are known and others not.
    settings = {"frames": "blip2_video_train", "save_freq": 1, "max_epoch": 2}
    train(stage, *places, tmp_path / "whole", **settings)
    stopped = build_runner(config_of(stage, *places, tmp_path / "cut", **settings), World())
    save = stopped.save

    def save_and_stop() -> None:
        save()
        if stopped.iteration == stop_at:
            raise StoppedError

    monkeypatch.setattr(stopped, "save", save_and_stop)
    with pytest.raises(StoppedError):
        stopped.run()
    train(stage, *places, tmp_path / "cut", **settings, resume="auto")
    assert reused(tmp_path / "cut") == reused(tmp_path / "whole")
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(whole[name], value) for name, value in weights(tmp_path / "cut").items())


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"published_quirks": "true"}, "run.frozen_verdicts keeps what frozen parts make, .* they drop out and train"),
        ({"distributed": "fsdp"}, "run.frozen_verdicts lets each process skip passes, .* all must run the same"),
        ({**KEEPING, "published_quirks": "true"}, "run.frame_cache keeps what frozen parts make"),
        ({**KEEPING, "distributed": "fsdp"}, "run.frame_cache lets each process skip passes"),
        ({**KEEPING, "frames": "blip2_video_train"}, "run.frame_cache finds no frame of 'blip2_video_train' again"),
        ({**KEEPING, "frame_cache_gib": 0}, "run.frame_cache_gib is 0.0; it must be above 0"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_keeping_is_refused_where_it_would_be_wrong(
    setting: dict[str, Any], says: str, data: Path, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says):
        train("finetune", data, model_folder, tmp_path, **setting)


def test_a_second_run_finds_what_the_first_has_watched(data: Path, steady_model_folder: Path, tmp_path: Path) -> None:
    places, cache = (data, steady_model_folder), tmp_path / "cache"
    for name, settings in {"plain": {}, "first": {"frame_cache": cache}, "second": {"frame_cache": cache}}.items():
        train("finetune", *places, tmp_path / name, frozen_verdicts="fresh", max_epoch=2, **settings)
        if name == "first":
            kept = {file.name: file.stat().st_ino for file in cache.iterdir()}
    plain, first, second = (weights(tmp_path / name) for name in ("plain", "first", "second"))
    # Seven questions, about three files that show the same; it was not written again.
    assert len(kept) == 1
    assert {file.name: file.stat().st_ino for file in cache.iterdir()} == kept
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        assert torch.allclose(value, plain[name], rtol=0, atol=1e-6), name
