"""Dual encoders and BLIP's matching, compared with plain calls of transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, BlipForImageTextRetrieval

from lavis.common.errors import CheckpointError, ConfigError, NotFiniteError
from lavis.common.registry import registry
from lavis.common.types import Question
from lavis.models.chain import Selector, build_selector, check_selector
from lavis.models.frames import FrameSource
from lavis.runners.evaluation.results import described, flattened
from lavis.selection.policies.plain import TopK
from lavis.selection.scorers import dual_encoder, pretrained
from lavis.selection.scorers.blip_itm import BlipITM
from lavis.selection.scorers.dual_encoder import DualEncoder
from tests.unit.models.tiny import recorded
from tests.unit.selection.scorers.networks import MOST_TOKENS, frames_of, parts_of, save_network
from tests.videos import write_video

TOWERS = ("clip", "siglip", "siglip2")
QUESTIONS = [Question("what is on the left", ("a cat", "a dog")), Question("the red square", id="2")]
TEXTS = ["what is on the left a cat a dog", "the red square"]
LONG = "red blue square circle cat dog left of the a what is on red red blue blue cat cat dog dog"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    return {family: save_network(root / family, family) for family in (*TOWERS, "blip")}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", num_frames=14)


def pictures_of(frames: FrameSource) -> list[Image.Image]:
    return [Image.fromarray(picture) for picture in frames.pictures(np.arange(len(frames)))]


@torch.no_grad()
def plain_logits(folder: Path, frames: FrameSource, texts: list[str]) -> np.ndarray:
    """What transformers says of texts [B] and frames [T], as its documentation has it."""
    images, tokenizer = parts_of(folder)
    network = AutoModel.from_pretrained(folder).eval()
    tokens = tokenizer(texts, padding="max_length", max_length=MOST_TOKENS, truncation=True, return_tensors="pt")
    found: torch.Tensor = network(**images(images=pictures_of(frames), return_tensors="pt"), **tokens).logits_per_text
    return found.numpy()


@torch.no_grad()
def plain_matching(folder: Path, frames: FrameSource, text: str) -> torch.Tensor:
    images, tokenizer = parts_of(folder)
    network = BlipForImageTextRetrieval.from_pretrained(folder).eval()
    found = network(
        **images(images=pictures_of(frames), return_tensors="pt"),
        **tokenizer([text] * len(frames), return_tensors="pt"),
    )
    scores: torch.Tensor = found.itm_score
    return scores


@pytest.mark.parametrize("family", TOWERS)
def test_scores_of_a_dual_encoder_are_the_logits_of_transformers(
    folders: dict[str, Path], video: Path, family: str
) -> None:
    frames = frames_of(video)
    found = DualEncoder(model=str(folders[family])).score(frames, QUESTIONS)
    expected = plain_logits(folders[family], frames, TEXTS)
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found.scores, expected, atol=1e-5, rtol=1e-5)


def test_a_margin_is_siglips_logit_and_for_clip_how_far_a_frame_lies_above_the_mean(
    folders: dict[str, Path], video: Path
) -> None:
    frames = frames_of(video)
    sigmoid = DualEncoder(model=str(folders["siglip"])).score(frames, QUESTIONS)
    np.testing.assert_array_equal(sigmoid.margins, sigmoid.scores)
    softmax = DualEncoder(model=str(folders["clip"])).score(frames, QUESTIONS)
    np.testing.assert_allclose(softmax.margins, softmax.scores - softmax.scores.mean(axis=1, keepdims=True))


def test_blip_scores_are_the_probability_that_picture_and_text_match(folders: dict[str, Path], video: Path) -> None:
    frames = frames_of(video)
    found = BlipITM(model=str(folders["blip"])).score(frames, QUESTIONS)
    for row, text in enumerate(TEXTS):
        expected = plain_matching(folders["blip"], frames, text)
        assert np.ptp(expected.numpy()) > 0.01
        np.testing.assert_allclose(found.scores[row], expected.softmax(dim=1)[:, 1], atol=1e-5)
        np.testing.assert_allclose(found.margins[row], expected[:, 1] - expected[:, 0], atol=1e-5)


def test_of_a_long_video_blip_keeps_nothing_and_says_the_same(
    folders: dict[str, Path], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, frames = BlipITM(model=str(folders["blip"])), frames_of(video)
    where = np.ones((len(QUESTIONS), len(frames)), bool)
    where[0, 1:] = False
    kept = [scorer.score(frames, QUESTIONS, where=mask) for mask in (None, where)]
    network = scorer._network
    states = frames.encoded(network.encoder, [0])
    assert states.numel() * states.element_size() == network.bytes_of_picture

    monkeypatch.setattr("lavis.selection.scorers.blip_itm.MAX_STATE_BYTES", len(frames) * network.bytes_of_picture - 1)
    frames = frames_of(video)
    for mask, wanted in zip((None, where), kept, strict=True):
        found = scorer.score(frames, QUESTIONS, where=mask)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)
        np.testing.assert_allclose(found.margins, wanted.margins, rtol=1e-4, atol=1e-5)
    assert len(frames.missing(network.encoder, range(len(frames)))) == len(frames)


@pytest.mark.parametrize("kind", [DualEncoder, BlipITM])
def test_frames_are_encoded_once_whatever_is_asked_and_only_those_that_are(
    folders: dict[str, Path], video: Path, kind: Any
) -> None:
    folder, frames = str(folders["clip" if kind is DualEncoder else "blip"]), frames_of(video)
    everything = kind(model=folder).score(frames_of(video), QUESTIONS)
    scorer = kind(model=folder)
    some = np.zeros((2, len(frames)), bool)
    some[0, 1] = some[1, [1, 4]] = True
    with recorded(scorer._network.network.vision_model) as calls:
        found = scorer.score(frames, QUESTIONS, where=some)
        assert sum(len(call["pixel_values"]) for call in calls) == 2
        np.testing.assert_array_equal(np.isfinite(found.scores), some)
        np.testing.assert_allclose(found.scores[some], everything.scores[some], atol=1e-5)
        np.testing.assert_array_equal(np.isfinite(found.margins), some)
        for _ in range(2):
            kind(model=folder).score(frames, QUESTIONS)  # built anew, as with each `ask`
        assert sum(len(call["pixel_values"]) for call in calls) == len(frames)


def test_a_question_gets_the_same_scores_alone_and_among_others(folders: dict[str, Path], video: Path) -> None:
    frames, scorer = frames_of(video), DualEncoder(model=str(folders["siglip2"]))
    together = scorer.score(frames, QUESTIONS).scores
    alone = np.concatenate([scorer.score(frames, [question]).scores for question in QUESTIONS])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_long_question_is_read_in_pieces_whose_features_are_averaged(folders: dict[str, Path], family: str) -> None:
    scorer, words = DualEncoder(model=str(folders[family])), LONG.split()
    inside = MOST_TOKENS - 2
    pieces = [" ".join(words[start : start + inside]) for start in range(0, len(words), inside)]
    assert len(pieces) == 3
    expected = scorer.query_features([Question(piece) for piece in pieces]).mean(axis=0)
    np.testing.assert_allclose(scorer.query_features([Question(LONG)])[0], expected, atol=1e-6)


def test_blip_averages_the_logits_of_the_pieces_of_a_long_question(folders: dict[str, Path], video: Path) -> None:
    scorer, words, frames = BlipITM(model=str(folders["blip"])), LONG.split(), frames_of(video)
    inside = MOST_TOKENS - 2
    pieces = [Question(" ".join(words[start : start + inside])) for start in range(0, len(words), inside)]
    expected = scorer.score(frames, pieces).margins.mean(axis=0)
    np.testing.assert_allclose(scorer.score(frames, [Question(LONG)]).margins[0], expected, atol=1e-5)


def test_features_are_offered_to_policies_as_the_model_makes_them(folders: dict[str, Path], video: Path) -> None:
    frames, scorer = frames_of(video), DualEncoder(model=str(folders["clip"]))
    images, _ = parts_of(folders["clip"])
    network = AutoModel.from_pretrained(folders["clip"]).eval()
    with torch.no_grad():
        prepared = images(images=pictures_of(frames), return_tensors="pt")
        expected = network.get_image_features(**prepared).pooler_output
    found = scorer.frame_features(frames)
    assert (found.dtype, found.shape) == (np.float64, (6, 8))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(scorer.frame_features(frames, [4, 1]), found[[4, 1]])
    assert scorer.query_features(QUESTIONS).shape == (2, 8)


def test_the_question_alone_is_read_where_that_is_asked_for(folders: dict[str, Path]) -> None:
    whole, alone = (
        DualEncoder(model=str(folders["clip"]), query=query) for query in ("question_and_options", "question")
    )
    bare = [Question(question.text) for question in QUESTIONS]
    np.testing.assert_array_equal(alone.query_features(QUESTIONS), whole.query_features(bare))
    assert not np.allclose(alone.query_features(QUESTIONS)[0], whole.query_features(QUESTIONS)[0])


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_stays_near(folders: dict[str, Path], video: Path, dtype: str) -> None:
    full, half = (
        DualEncoder(model=str(folders["siglip"]), dtype=one).score(frames_of(video), QUESTIONS).scores
        for one in ("fp32", dtype)
    )
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(half, full, atol=0.1)


def test_a_network_is_loaded_once_when_a_selector_is_built_and_not_when_it_is_checked(
    folders: dict[str, Path], video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    original = dual_encoder.TwoTowers.load.__func__  # type: ignore[attr-defined]  # a class method has it
    monkeypatch.setattr(
        dual_encoder.TwoTowers,
        "load",
        classmethod(lambda cls, place, **options: loads.append(place) or original(cls, place, **options)),
    )
    pretrained._loaded.cache_clear()
    spec = {"scorer": {"name": "dual_encoder", "model": str(folders["clip"])}, "policy": "top_k", "k": 2}
    check_selector(spec)
    assert loads == []

    class Answering:
        device = torch.device("cpu")

    model: Any = Answering()
    for _ in range(2):
        chosen = build_selector(spec, model, prompt="default").select(frames_of(video), QUESTIONS, k=2)
        assert [len(one.positions) for one in chosen] == [2, 2]
    assert loads == [str(folders["clip"])]


def test_other_weights_tokenizers_and_precisions_are_other_facts_of_a_selector(tmp_path: Path) -> None:
    facts = []
    place = tmp_path / "network"
    for seed, dtype in ((0, "fp32"), (0, "fp32"), (1, "fp32"), (1, "bf16")):
        save_network(place, "clip", seed=seed)
        scorer = DualEncoder(model=str(place), dtype=dtype)
        scorer.load("cpu")
        scorer.query_features(QUESTIONS)
        facts.append(json.dumps(flattened({"scorer": described(Selector(TopK(), scorer))})))
    assert facts[0] == facts[1]
    assert len(set(facts)) == 3
    assert len(facts[0]) < 2000


@pytest.mark.parametrize("name", ["dual_encoder", "blip_itm"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "clipp"}, "unknown model 'clipp'; "),
        ({"model": "{tmp}"}, "no model in {tmp}: it has no config.json; name the folder of a saved model"),
        ({"query": "answers"}, "unknown query 'answers'; known: question, question_and_options"),
        ({"dtype": "int3"}, "unknown dtype 'int3'; "),
        ({"device": "tpu"}, "unknown device 'tpu'; give cpu, cuda, cuda:N or mps"),
        ({"trust_remote_code": True}, "unknown argument 'trust_remote_code'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, name: str, settings: dict[str, Any], message: str
) -> None:
    given = {key: str(value).format(tmp=tmp_path) for key, value in settings.items()}
    with pytest.raises(ConfigError) as caught:
        check_selector({"scorer": {"name": name, **given}})
    assert message.format(tmp=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_of_another_kind_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no BLIP: its model_type is 'clip'; name one for image-text"):
        BlipITM(model=str(folders["clip"])).load("cpu")
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(CheckpointError, match=r"is no dual encoder: its model_type is 't5'; name a CLIP or SigLIP"):
        DualEncoder(model=str(tmp_path)).load("cpu")
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}')
    (tmp_path / "mine.py").write_text("raise SystemExit('was run')")
    with pytest.raises(CheckpointError, match="it brings code of its own, which is not run here"):
        DualEncoder(model=str(tmp_path)).load("cpu")


def test_missing_damaged_and_pickled_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_network(tmp_path / "network", "blip")
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "itm_head" not in name}, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"has no weights for itm_head\.bias; its files are damaged, or of another"
    ):
        BlipITM(model=str(folder)).load("cpu")
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=r"cannot be loaded: .*; its files are damaged"):
        BlipITM(model=str(folder)).load("cpu")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be loaded: "):
        BlipITM(model=str(folder)).load("cpu")


def test_weights_that_hold_no_numbers_are_told_from_an_empty_choice(tmp_path: Path, video: Path) -> None:
    scorer = DualEncoder(model=str(save_network(tmp_path, "clip")))
    scorer._network.network.visual_projection.weight.data.fill_(float("nan"))
    with pytest.raises(NotFiniteError, match="makes scores that are not finite; give another dtype, or check"):
        scorer.score(frames_of(video), QUESTIONS)
    pretrained._loaded.cache_clear()


def test_siglips_tokenizer_is_read_without_sentencepiece(tmp_path: Path, video: Path) -> None:
    folder, frames = save_network(tmp_path, "siglip"), frames_of(video)
    expected = DualEncoder(model=str(folder)).score(frames, QUESTIONS).scores
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": "SiglipTokenizer"}))
    np.testing.assert_array_equal(DualEncoder(model=str(folder)).score(frames_of(video), QUESTIONS).scores, expected)


def test_they_are_registered() -> None:
    assert {"dual_encoder", "blip_itm", "scores_file", "motion", "noise", "windows"} <= set(registry.scorers.names())
