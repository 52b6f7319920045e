"""Weights that learn what is asked by heart are saved as a model that knows it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import align
from benchmarks.agreement import held_out
from lavis.models.loading import load_model
from lavis.models.sevila.config import read_config
from lavis.models.sevila.model import SeViLA

NUM_FRAMES = 8


def test_random_weights_learn_the_answers_and_the_frames_of_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(align, "model_of", lambda *_, **__: SeViLA.untrained(read_config("tiny")))
    asked = held_out(tmp_path, 1)
    [(path, questions)] = asked
    sizes = {"num_frames": NUM_FRAMES, "num_keyframes": 4}
    folder = tmp_path / "weights"
    align.save_aligned(folder, "tiny", asked, num_steps=60, device=torch.device("cpu"), batch_size=8, **sizes)
    watched = load_model("sevila", str(folder)).watch(path, num_frames=NUM_FRAMES)
    answers = watched.ask_all(list(questions), num_keyframes=4)
    right = [answer.index == question.answer for answer, question in zip(answers, questions, strict=True)]
    assert sum(right) >= len(questions) - 1
    assert np.isfinite(np.concatenate([answer.keyframes.all_scores for answer in answers])).all()
