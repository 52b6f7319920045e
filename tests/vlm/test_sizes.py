"""Frames at several sizes, and the tokens that they take: models that read any size, and those that do not."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lavis
from lavis.cli.main import main
from lavis.common.types import Question
from lavis.models.hf.backbone import IMAGE
from lavis.models.hf.model import HFModel
from tests.vlm import plain

pytestmark = pytest.mark.vlm

MOST = 1e-5
# Frames of 40x48 pixels, and smaller ones; a token is 8x8 pixels, and a picture is no more than 1024 pixels.
TOKENS = {1: 12, 0.5: 6, 0.25: 2, 0.125: 1}
SHAPES = {1: (40, 48), 0.5: (20, 24), 0.25: (10, 12), 0.125: (5, 6)}
Q_FRAME = {"policy": {"name": "q_frame", "published": True}, "k": 4}
ONE_SIZE = "frames were chosen to be read at several sizes, and the model reads all at one: each is read at its own"


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def model(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> HFModel:
    made: HFModel = lavis.load_model("hf", folder_of(request.param), device="cpu")
    return made


def resized(picture: Any, scale: float) -> Any:
    height, width = SHAPES[scale]
    return np.asarray(Image.fromarray(picture).resize((width, height)))


def test_a_prompt_with_frames_of_several_sizes_is_the_plain_one(model: HFModel, clip: Path) -> None:
    video = model.watch(clip, num_frames=5)
    positions, sizes = np.array([[0, 1, 3, 4]]), np.array([[0.25, 1, 0.125, 0.5]])
    pictures = video.source.pictures(positions[0])
    smaller = [resized(picture, scale) for picture, scale in zip(pictures, sizes[0], strict=True)]
    question = Question("Is it red?", ("a circle", "a square"))
    content = plain.labelled(smaller, video.times_s[positions[0]], plain.PROMPT.answerer(question))
    logits = plain.next_logits(model, content)
    wanted = [float(logits[model.letter_ids(option)].logsumexp(0)) for option in range(2)]
    answerer = model.as_answerer(prompt="multiple_choice", packing="joint")
    (reading,) = answerer.answer(video.source, positions, [question], sizes=sizes)  # type: ignore[call-arg]
    assert np.abs(reading.option_scores - wanted).max() < MOST * float(logits.std())
    # They differ: sizes matter.
    (whole,) = answerer.answer(video.source, positions, [question])
    assert np.abs(reading.option_scores - whole.option_scores).max() > 100 * MOST * float(logits.std())


def test_frames_that_are_read_alone_have_their_sizes_too(model: HFModel, clip: Path) -> None:
    source, question = model.watch(clip, num_frames=5).source, Question("Is it red?", ("a", "b"))
    alone: Any = model.as_answerer(prompt="multiple_choice", packing="per_frame")
    (mixed,) = alone.answer(source, np.array([[1, 2]]), [question], sizes=np.array([[1, 0.25]]))
    single = [
        alone.answer(source, np.array([[position]]), [question], sizes=np.array([[scale]]))[0].option_scores
        for position, scale in ((1, 1), (2, 0.25))
    ]
    np.testing.assert_allclose(mixed.option_scores, np.mean(single, axis=0), rtol=1e-4, atol=1e-5)


def test_q_frame_as_published_reads_three_sizes(model: HFModel, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = model.watch(clip, num_frames=20, lazy=True)
    seen: Counter[tuple[int, int]] = Counter()
    see, logits, prompts = model.backbone._see, model.backbone.logits, []
    monkeypatch.setattr(
        model.backbone, "_see", lambda pictures: seen.update(one.shape[:2] for one in pictures) or see(pictures)
    )
    monkeypatch.setattr(model.backbone, "logits", lambda ids, features: prompts.append(ids) or logits(ids, features))
    answer = video.ask("Is it red?", ["a", "b"], selector={"scorer": "noise", **Q_FRAME})
    # K = 4 is 2 frames at a half, 4 at a quarter, 16 at an eighth; there are 20 frames.
    assert Counter(answer.keyframes.sizes.tolist()) == {0.5: 2, 0.25: 4, 0.125: 14}
    assert seen == {SHAPES[0.5]: 2, SHAPES[0.25]: 4, SHAPES[0.125]: 14}
    ((ids,),) = prompts
    assert answer.cost is not None
    assert answer.cost.frame_tokens == ids.count(model.backbone.image_token_id) == 2 * 6 + 4 * 2 + 14 * 1
    assert not [caveat for caveat in answer.caveats if "sizes" in caveat]
    assert video.ask("Is it red?", selector={"scorer": "noise", **Q_FRAME}).text is not None


@pytest.mark.parametrize(("budget", "count"), [(12, 1), (23, 1), (24, 2), (100, 8)])
def test_a_budget_goes_by_what_a_frame_takes(model: HFModel, clip: Path, budget: int, count: int) -> None:
    for lazy in (True, False):  # sizes are known before anything is decoded, and after
        video = model.watch(clip, num_frames=10, lazy=lazy)
        answer = video.ask("Is it red?", ["a", "b"], token_budget=budget, selector="uniform")
        assert len(answer.keyframes) == count
        assert answer.cost is not None
        assert answer.cost.frame_tokens == 12 * count


def test_a_budget_goes_by_the_sizes_that_are_chosen(model: HFModel, clip: Path) -> None:
    video = model.watch(clip, num_frames=20, lazy=True)
    selector = {"scorer": "noise", "policy": {"name": "q_frame", "published": True}}
    # K = 4 takes 34, and K = 5 is 2 frames at a half, 5 at a quarter, 13 of 20 left: 35.
    sizes = {budget: Counter(_sizes(video, selector, budget)) for budget in (34, 35)}
    assert sizes == {34: {0.5: 2, 0.25: 4, 0.125: 14}, 35: {0.5: 2, 0.25: 5, 0.125: 13}}


def _sizes(video: Any, selector: Any, budget: int) -> list[float]:
    answer = video.ask("Is it red?", ["a", "b"], token_budget=budget, selector=selector)
    assert answer.cost.frame_tokens == budget
    sizes: list[float] = answer.keyframes.sizes.tolist()
    return sizes


def test_tokens_are_those_of_each_size(model: HFModel, clip: Path) -> None:
    answerer: Any = model.as_answerer(prompt="multiple_choice", packing="joint")
    source = model.watch(clip, num_frames=2, lazy=True).source
    assert answerer.frame_tokens(source, np.array(list(TOKENS))).tolist() == list(TOKENS.values())
    assert source.num_decoded == 0
    for scale, tokens in TOKENS.items():
        ids = model.backbone.ids(["Is it", IMAGE], SHAPES[scale])
        assert ids.count(model.backbone.image_token_id) == tokens


@pytest.mark.parametrize("family", ["smolvlm", "internvl", "gemma3"])
def test_a_model_of_one_size_reads_frames_as_they_are_and_says_so(
    family: str, folder_of: Callable[[str], Path], clip: Path
) -> None:
    model = lavis.load_model("hf", folder_of(family), device="cpu")
    answer = model.watch(clip, num_frames=4).ask("Is it red?", ["a", "b"], selector={"scorer": "noise", **Q_FRAME})
    assert ONE_SIZE in answer.caveats
    assert answer.keyframes.sizes.tolist() == []
    each = model.backbone.layout((40, 48)).tokens
    assert answer.cost.frame_tokens == 4 * each


def test_the_command_tells_sizes_and_tokens(
    folder_of: Callable[[str], Path], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["answer", str(clip), "Is it red?", "-o", "a", "-o", "b", "--model", str(folder_of("qwen2_5_vl"))]
    command += ["--num-frames", "20", "--selector", json.dumps(Q_FRAME)]
    assert main([*command, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert Counter(frame["size"] for frame in record["keyframes"]) == {0.5: 2, 0.25: 4, 0.125: 14}
    assert (record["num_keyframes"], record["cost"]["frame_tokens"]) == (20, 34)
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "34 tokens of frames read" in told
    assert "0.125" in told
