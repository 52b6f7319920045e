"""Models of which prefixes cannot be shared are asked with whole prompts, which one line says."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lavis
from lavis.models.hf.backbone import IMAGE
from lavis.models.hf.model import HFModel
from tests.vlm import plain
from tests.vlm.families import TEXT, save_tiny
from tests.vlm.plain import PROMPT
from tests.vlm.test_equality import MOST, QUESTIONS

pytestmark = pytest.mark.vlm


def question_first(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    text = path.read_text()
    loop = "{% for part in message['content'] %}"
    begin = text.index(loop)
    end = text.index("{% endfor %}", begin)
    parts = text[begin + len(loop) : end]
    loops = (
        f"{loop}{{% if part['type'] == '{kind}' %}}{parts}{{% endif %}}{{% endfor %}}" for kind in ("text", "image")
    )
    path.write_text(text[:begin] + "".join(loops) + text[end + len("{% endfor %}") :])


def as_it_is(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("family", "change", "reason"),
    [
        ("smolvlm", question_first, "the question comes before the picture"),
        ("qwen3_vl", question_first, "the question comes before the picture"),
        ("qwen3_5", as_it_is, "the model keeps LinearAttentionLayer"),
        ("gemma4", as_it_is, "the model keeps DummyLayer"),
    ],
)
def test_prefixes_that_cannot_be_shared_are_not(
    folder_of: Callable[[str], Path],
    clip: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    family: str,
    change: Callable[[Path], None],
    reason: str,
) -> None:
    folder = Path(shutil.copytree(folder_of(family), tmp_path / "mine"))
    change(folder)
    model: HFModel = lavis.load_model("hf", folder, device="cpu")
    assert f"({reason}" in caplog.text  # said as it is loaded
    video = model.watch(clip, num_frames=3)
    scorer = model.as_scorer(prompt=PROMPT)
    found = scorer.score(video.source, QUESTIONS[:2])
    again = scorer.score(model.watch(clip, num_frames=3).source, QUESTIONS[:2])
    (line,) = [record.message for record in caplog.records if "not shared" in record.message]
    assert line.startswith(f"mine: prefixes of frames are not shared between questions ({reason}")
    assert line.endswith("); slower")
    yes, no = plain.scores(model, video.source.pictures(range(3)), QUESTIONS[:2])
    spread = plain.spread_of(model, video.source.pictures([0])[0])
    assert np.abs(found.scores - yes).max() < MOST * spread
    assert np.abs(found.margins - (yes - no)).max() < 2 * MOST * spread
    np.testing.assert_array_equal(found.scores, again.scores)


def test_a_template_that_puts_the_question_first_is_answered_right(
    folder_of: Callable[[str], Path], clip: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folder_of("smolvlm"), tmp_path / "mine"))
    question_first(folder)
    model: HFModel = lavis.load_model("hf", folder, device="cpu")
    video = model.watch(clip, num_frames=3)
    (reading,) = model.as_answerer(prompt=PROMPT, packing="joint").answer(
        video.source, np.array([[0, 2]]), QUESTIONS[:1]
    )
    content = plain.labelled(video.source.pictures([0, 2]), video.times_s[[0, 2]], PROMPT.answerer(QUESTIONS[0]))
    wanted = plain.letters(model, plain.next_logits(model, content), 2)
    spread = plain.spread_of(model, video.source.pictures([0])[0])
    assert np.abs(reading.option_scores - wanted).max() < MOST * spread


def go_on_otherwise(model: HFModel, monkeypatch: pytest.MonkeyPatch, *, share: float) -> None:
    """Change a logit of what a prefix goes on to, by this share of the logits' spread."""
    continued = model.backbone.continued_logits

    def changed(*arguments: Any, **options: Any) -> torch.Tensor:
        logits = continued(*arguments, **options)
        logits[0, 0] += share * logits.std()
        return logits

    monkeypatch.setattr(model.backbone, "continued_logits", changed)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("share", "is_shared"), [(3e-4, False), (3e-5, True)])
def test_prefixes_are_shared_where_logits_differ_by_rounding_alone(
    folder_of: Callable[[str], Path],
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    share: float,
    is_shared: bool,
    dtype: str,
) -> None:
    model: HFModel = lavis.load_model("hf", folder_of("smolvlm"), device="cpu", dtype=dtype)
    go_on_otherwise(model, monkeypatch, share=share)
    model.as_scorer(prompt=PROMPT).score(model.watch(clip, num_frames=2).source, QUESTIONS[:1])
    assert model.backbone._shares == {"": is_shared}
    assert ("prefixes of frames are not shared between questions (logits differ by " in caplog.text) is not is_shared


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HFModel:
    """A model in bf16 whose many layers make much of rounding."""
    monkeypatch.setitem(TEXT, "num_hidden_layers", 28)
    model: HFModel = lavis.load_model("hf", save_tiny("qwen3_vl", tmp_path), device="cpu", dtype="bf16")
    torch.manual_seed(0)
    for weight in model.network.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def test_a_deep_model_shares_prefixes_although_half_precision_rounds_it_far(deep: HFModel, clip: Path) -> None:
    source = deep.watch(clip, num_frames=1).source
    features = source.encoded(deep.feature_encoder, [0])
    head, tail = deep.backbone.split(deep.backbone.ids([IMAGE, "Is it red?"], deep.backbone.size_of(features)))
    whole = deep.backbone.logits([head + tail], features)
    size = deep.backbone.size_of(features)
    shared = deep.backbone.continued_logits(deep.backbone.prefix(features, head), tail, size=size)
    assert (whole - shared).abs().max() > 0.05 * whole.std()
    assert deep.backbone.shares_prefixes(features)
    assert deep.backbone.continued_logits(deep.backbone.prefix(features, head), tail, size=size).equal(shared)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_a_deep_model_of_whole_numbers_shares_prefixes(
    deep: HFModel, clip: Path, caplog: pytest.LogCaptureFixture, quantization: str
) -> None:
    pytest.importorskip("torchao")
    deep.quantize(quantization)
    deep.as_scorer(prompt=PROMPT).score(deep.watch(clip, num_frames=2).source, QUESTIONS[:1])
    assert deep.backbone._shares == {"": True}
    assert "not shared" not in caplog.text


def test_what_keeps_prefixes_from_being_shared_is_found_under_whole_numbers_too(
    folder_of: Callable[[str], Path], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchao")
    model: HFModel = lavis.load_model("hf", folder_of("smolvlm"), device="cpu", dtype="bf16")
    go_on_otherwise(model, monkeypatch, share=3e-4)
    model.quantize("int8")
    model.as_scorer(prompt=PROMPT).score(model.watch(clip, num_frames=2).source, QUESTIONS[:1])
    assert model.backbone._shares == {"": False}
