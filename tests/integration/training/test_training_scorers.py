"""The Answerer learns from frames that other scorers than the model's Localizer choose."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavis.common.distributed import World
from lavis.models.chain import Selector, build_selector, prepared_frames
from lavis.models.sevila.model import SeViLA
from lavis.runners.build import build_runner
from lavis.runners.config import load_train_config
from lavis.selection.policies.spread import Threshold
from lavis.tasks.objectives import AnswererFinetuning
from tests.integration.training.tiny_run import NUM_SAMPLES, options, recipe
from tests.unit.selection.scorers.networks import save_network

TIMES_S = [0.2, 0.6, 1.0, 1.4]
BEST = [0, 2]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Scores by which the first and third of the four frames are the best of every question."""
    file = tmp_path / "scores.jsonl"
    rows = [
        {"question_id": f"CW_{number}", "times_s": TIMES_S, "scores": [3.0, 1.0, 2.0, 0.0]}
        for number in range(NUM_SAMPLES)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, SeViLA, list[list[int]], float]]:
    """What each step of a run learned from: batch, model, positions of the frames, loss."""
    steps: list[tuple[Any, SeViLA, list[list[int]], float]] = []
    learn = AnswererFinetuning.__call__

    def noted(self: AnswererFinetuning, model: Any, batch: Any) -> dict[str, Any]:
        found = learn(self, model, batch)
        steps.append((batch, model, [row.tolist() for row in found["positions"]], float(found["loss"].detach())))
        return found

    monkeypatch.setattr(AnswererFinetuning, "__call__", noted)
    return steps


def train(data: Path, model: Path, output: Path, selector: dict[str, Any], **run: object) -> None:
    given = options("finetune", data=data, model=model, output=output, valid_splits="[]", test_splits="[]", **run)
    given += [
        "datasets.nextqa.vis_processor.train.name=blip_video_eval",
        f"model.training_selector={json.dumps(selector)}",
    ]
    build_runner(load_train_config(recipe("finetune"), options=given), World()).run()


@pytest.mark.parametrize("kept", ["fresh", "remembered"])
def test_frames_are_those_of_a_file_of_scores_in_every_epoch(
    data: Path, steady_model_folder: Path, tmp_path: Path, scores: Path, learned: list[Any], kept: str
) -> None:
    selector = {"scorer": {"name": "scores_file", "path": str(scores)}}
    train(data, steady_model_folder, tmp_path / "out", selector, frozen_verdicts=kept)
    assert sum(len(positions) for _, _, positions, _ in learned) == 2 * NUM_SAMPLES
    assert all(row == BEST for _, _, positions, _ in learned for row in positions)
    assert all(np.isfinite(loss) for *_, loss in learned)


def test_frames_are_those_that_move(data: Path, steady_model_folder: Path, tmp_path: Path, learned: list[Any]) -> None:
    train(data, steady_model_folder, tmp_path, {"scorer": {"name": "motion", "size": 16}, "k": 1}, max_epoch=1)
    for batch, _, positions, _ in learned:
        for pixels, row in zip(batch.pixels, positions, strict=True):
            # Normalisation changes each channel alone, and hardly which change is the largest.
            changes = pixels.diff(dim=0).abs().mean(dim=(1, 2, 3))
            assert row == [int(changes.argmax()) + 1]


@pytest.mark.parametrize("policy", ["top_k", "mdp3", "diversity"])
@pytest.mark.parametrize("kept", ["fresh", "remembered"])
def test_frames_are_those_of_a_dual_encoder_also_by_its_features(
    data: Path, steady_model_folder: Path, tmp_path: Path, learned: list[Any], policy: str, kept: str
) -> None:
    folder = save_network(tmp_path / "siglip", "siglip")
    selector = {"scorer": {"name": "dual_encoder", "model": str(folder)}, "policy": policy}
    train(data, steady_model_folder, tmp_path / "out", selector, max_epoch=1, frozen_verdicts=kept)
    wanted: dict[str, list[int]] = {}
    for batch, model, positions, _ in learned:
        chooser = build_selector(selector, model, prompt="multiple_choice")
        for number, question in enumerate(batch.questions):
            frames = prepared_frames(model, batch.pixels[number], batch.frame_idx[number], batch.times_s[number])
            with torch.no_grad():
                (selection,) = chooser.select(frames, [question], k=2)
            wanted[question.id] = selection.positions.tolist()
            assert positions[number] == wanted[question.id]
    assert len(wanted) == NUM_SAMPLES


@pytest.mark.parametrize("kept", ["fresh", "remembered"])
def test_a_threshold_goes_by_margins_and_may_leave_different_numbers_of_frames(
    data: Path,
    steady_model_folder: Path,
    tmp_path: Path,
    learned: list[Any],
    kept: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    margins: list[tuple[list[float], int]] = []
    select = Selector.select

    def noted(self: Selector, frames: Any, questions: Any, *, k: int) -> Any:
        found = select(self, frames, questions, k=k)
        assert isinstance(self.policy, Threshold)
        assert self.scorer is not None
        scored = self.scorer.score(frames, questions)
        margins.append((scored.margins[0].tolist(), len(found[0].positions)))
        return found

    monkeypatch.setattr(Selector, "select", noted)
    selector = {"policy": {"name": "threshold", "above": 0}, "k": "auto"}
    train(data, steady_model_folder, tmp_path, selector, frozen_verdicts=kept)
    assert len(margins) == 2 * NUM_SAMPLES
    for row, count in margins:
        assert count == min(2, max(1, sum(margin > 0 for margin in row)))
