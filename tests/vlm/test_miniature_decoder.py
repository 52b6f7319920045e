"""The miniature's decoder-only model, its stages and its measures, from nothing to a table, in a few steps of each."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lavis.common.types import Question
from lavis.models.hf.backbone import IMAGE, Backbone
from lavis.models.loading import load_model
from lavis.processors.chat_prompts import MultipleChoiceChat
from sevila_data.miniature.dataset import SPLITS, write_dataset
from sevila_data.miniature.decoder import Reading, draw_exercises, drawn_scenes, make_model, word_frames
from sevila_data.miniature.decoder_experiment import (
    DecoderRun,
    Steps,
    join_base,
    main,
    make_language,
    make_vision,
    train_stages,
)
from sevila_data.miniature.experiment import once
from sevila_data.miniature.stages import STAGES

pytestmark = pytest.mark.vlm


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An experiment's folder with two videos a split, and a base and stages that have learned for a step or two."""
    folder = tmp_path_factory.mktemp("decoder")
    data = folder / "data"
    sizes = dict.fromkeys(SPLITS, 2)
    once(folder, "data", data / "moments/test.json", lambda: write_dataset(data, seed=0, sizes=sizes))
    steps = Steps(language=2, vision=1, joined=2, videos=2, stages=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVILA_MINIATURE", str(folder))
        make_language(folder, steps)
        make_vision(folder, steps)
        join_base(folder, steps)
        train_stages(folder, 0, list(STAGES), steps)
        yield folder


def test_the_base_loads_as_any_image_text_model_and_shares_prefixes(experiment: Path) -> None:
    watched = load_model(model_type=str(experiment / "base")).watch(experiment / "data/videos/test_0000.mp4")
    answer = watched.ask("What colour is the star?", ["red", "blue"], num_keyframes=2)
    assert answer.index in (0, 1)
    assert watched.model.backbone.shares_prefixes(watched.source.encoded(watched.model.feature_encoder, np.array([0])))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains_the_adapter_of_its_role(experiment: Path, stage: str) -> None:
    model = DecoderRun(experiment, seed=0).model(stage)
    trained = [role for role in ("localizer", "answerer") if model.state_of(role)]
    assert trained == ["answerer" if stage.startswith("finetune") else "localizer"]


def test_everything_is_measured_and_written_to_a_table(experiment: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    assert (
        main(
            [
                "--output",
                str(experiment),
                "--workers",
                "1",
                "--test-videos",
                "1",
                "--table",
                str(table),
                "--remark",
                "Tried.",
            ]
        )
        == 0
    )
    text = table.read_text()
    assert "Tried." in text
    assert "| localizer, pre-trained and refined |" in text
    figures = json.loads((experiment / "figures.json").read_text())
    assert figures["questions"] == 8
    assert figures["inside"]["oracle"] == 100.0


def test_without_all_stages_the_choice_of_frames_is_measured(experiment: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    given = [
        "--output",
        str(experiment),
        "--workers",
        "1",
        "--test-videos",
        "1",
        "--table",
        str(table),
        "--stages",
        "pretrain",
    ]
    assert main(given) == 0
    text = table.read_text()
    assert "| localizer, pre-trained |" in text
    assert "| pre-training over none |" in text
    assert "## Answerer" not in text


def test_the_base_is_asked_nothing_that_the_localizer_is_asked() -> None:
    drawn = draw_exercises(np.random.default_rng(0), drawn_scenes, count=320, only_one=False)
    asked = [part for one in drawn for part in one.content if isinstance(part, str)]
    assert not [text for text in asked if "Does this frame show" in text]
    for one in drawn:
        if one.answer is not None:
            assert MultipleChoiceChat().answerer(_question_of(one.content[-1])) == one.content[-1]


def _question_of(text: str) -> Question:
    question, _, options = text.removeprefix("Question: ").partition("\nOptions:\n")
    return Question(question, tuple(line[3:] for line in options.split("\n")[:-1]))


def test_words_and_pictures_stand_in_the_same_places_of_a_prompt() -> None:
    model, processor = make_model(seed=0)
    backbone = Backbone(model, processor, "tiny")
    rng = np.random.default_rng(0)
    drawn = draw_exercises(rng, drawn_scenes, count=16, only_one=False)
    with torch.no_grad():
        loss, right = Reading(backbone).loss(drawn, word_frames(backbone, drawn, rng))
    assert torch.isfinite(loss)
    assert {"judged", "caption", "4 frames"} <= right.keys()
    words = [backbone.tokenizer.tokenize(f" {word}") for word in ("red", "star", "forest", "left")]
    assert all(len(word) == 1 for word in words)
    assert backbone.ids([IMAGE, "?"], (64, 64)).count(backbone.image_token_id) == 1
