"""The baseline does what our path does, only the long way round."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from benchmarks.film import encode_film
from benchmarks.fixtures import as_published, questions
from benchmarks.published import PublishedProcedure
from lavis.models.sevila.model import SeViLA
from tests.precision import assert_near_float64
from tests.unit.models.tiny import CONFIG

NUM_FRAMES, NUM_KEYFRAMES = 6, 2


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    encode_film(path, num_frames=30, width=96, height=64)
    return path


@pytest.fixture(scope="module")
def model() -> SeViLA:
    # In float64, where the two ways of computing the same agree to the last bits on any processor.
    untrained = SeViLA.untrained(CONFIG).double()
    # Frames that untrained weights hardly tell apart are a tie, which rounding decides, on each side for itself.
    with torch.no_grad():
        untrained.localizer.proj.weight.mul_(20)
    return untrained


def test_baseline_gives_the_scores_frames_and_answers_of_our_path(model: SeViLA, video: Path) -> None:
    asked = questions(3)
    ours = model.watch(video, num_frames=NUM_FRAMES).ask_all(asked, num_keyframes=NUM_KEYFRAMES)
    published = PublishedProcedure(
        as_published(model, attention="eager"),
        video=video,
        batch=asked,
        num_frames=NUM_FRAMES,
        num_keyframes=NUM_KEYFRAMES,
    )
    for number, (question, answer) in enumerate(zip(asked, ours, strict=True)):
        theirs = published(number, question)
        # The library rounds the logits of free decoding to float32.
        assert_near_float64(theirs.scores, answer.keyframes.all_scores, dtype=torch.float32)
        read, left = np.sort(theirs.scores)[-NUM_KEYFRAMES:], np.sort(theirs.scores)[:-NUM_KEYFRAMES]
        assert read.min() - left.max() > 5e-5
        assert theirs.positions.tolist() == answer.keyframes.positions.tolist()
        assert_near_float64(theirs.option_scores, answer.option_scores, dtype=torch.float32)
        assert theirs.index == answer.index


def test_baseline_spends_time_on_every_part_for_every_question(model: SeViLA, video: Path) -> None:
    asked = questions(2)
    published = PublishedProcedure(model, video=video, batch=asked, num_frames=NUM_FRAMES, num_keyframes=NUM_KEYFRAMES)
    for number, question in enumerate(asked):
        spent = published(number, question).timings
        assert min(spent.decode_s, spent.watch_s, spent.localize_s, spent.answer_s) > 0


def test_published_modules_have_the_weights_but_not_our_kernels(model: SeViLA) -> None:
    plain = as_published(model, attention="eager")
    for block in plain.language.model.decoder.block:
        assert type(block.layer[1].EncDecAttention) is T5Attention
    for part in (plain.vision.model, plain.localizer.qformer, plain.answerer.qformer, plain.language.model):
        assert part.config._attn_implementation == "eager"
    assert model.vision.model.config._attn_implementation == "sdpa"
    ours, theirs = model.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
