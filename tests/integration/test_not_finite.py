"""Weights or settings that hold no numbers give an error that names them at every door, and never an answer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import lavis
from lavis.cli.main import main
from lavis.common.errors import NotFiniteError
from lavis.demo.serve import serving
from lavis.demo.settings import Settings
from lavis.models.sevila.model import OptionLogits, SeViLA
from tests.integration.evaluation.benchmarks import read_lines, recipe
from tests.integration.evaluation.questions import settings, write_questions
from tests.videos import write_video

OPTIONS = ["a dog", "a boat"]
BROKEN = {
    "vision": "vision.model.embeddings.patch_embedding.weight",
    "localizer": "localizer.proj.bias",
    "answerer": "answerer.queries",
    "encoder": "language.model.encoder.block.0.layer.0.SelfAttention.k.weight",
    "head": "language.model.lm_head.weight",
}


def broken(part: str, value: float = torch.nan) -> SeViLA:
    model: SeViLA = lavis.load_model("sevila", "tiny", device="cpu")
    with torch.no_grad():
        model.get_parameter(BROKEN[part]).fill_(value)
    return model


def began_in(part: str) -> str:
    return f"has scores that are not finite; they began in the weights of {BROKEN[part]}; fetch or save them again"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", num_frames=20)


@pytest.mark.parametrize("part", BROKEN)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_python_names_the_weights(clip: Path, part: str, value: float) -> None:
    video = broken(part, value).watch(clip, num_frames=4)
    for ask in (
        lambda: video.ask("What is it?", OPTIONS),
        lambda: video.ask("What is it?"),
        lambda: video.ask("What is it?", OPTIONS, selector="coarse_to_fine", reader="per_frame"),
    ):
        with pytest.raises(NotFiniteError) as raised:
            ask()
        assert str(raised.value) == f"question 'What is it?' {began_in(part)}"


@pytest.mark.parametrize("part", sorted(BROKEN.keys() - {"localizer"}))
@pytest.mark.parametrize("options", [OPTIONS, []])
def test_answers_from_uniform_frames_are_refused_too(clip: Path, part: str, options: list[str]) -> None:
    with pytest.raises(NotFiniteError, match=BROKEN[part]):
        broken(part).watch(clip, num_frames=4).ask("What is it?", options, selector="uniform")


def test_what_the_question_does_not_need_may_be_broken(clip: Path) -> None:
    whole = lavis.load_model("sevila", "tiny", device="cpu").watch(clip, num_frames=4)
    answer = broken("localizer").watch(clip, num_frames=4).ask("What is it?", OPTIONS, selector="uniform")
    assert answer.index == whole.ask("What is it?", OPTIONS, selector="uniform").index
    assert broken("answerer").watch(clip, num_frames=4).find("A dog").scores.tolist() == pytest.approx(
        whole.find("A dog").scores.tolist(), abs=1e-5
    )


@pytest.mark.parametrize("name", ["image_mean", "image_std"])
def test_the_configuration_is_named(clip: Path, name: str) -> None:
    model = lavis.load_model("sevila", "tiny", device="cpu")
    values = (0.5, torch.nan if name == "image_mean" else 0.0, 0.5)
    object.__setattr__(model.config, name, values)
    rebuilt = SeViLA(
        vision=model.vision,
        localizer=model.localizer,
        answerer=model.answerer,
        language=model.language,
        config=model.config,
    )
    with pytest.raises(
        NotFiniteError, match=rf"they began in the model's {name}, \(0\.5, .*\); mend its config\.json$"
    ):
        rebuilt.watch(clip, num_frames=2).find("A dog")


def test_numbers_that_outgrow_their_precision_are_placed(clip: Path) -> None:
    model = lavis.load_model("sevila", "tiny", device="cpu")
    with torch.no_grad():
        model.get_parameter("localizer.proj.weight").fill_(3e38)
    with pytest.raises(NotFiniteError, match=r"began in the Localizer's tokens .*torch\.float32; try another dtype$"):
        model.watch(clip, num_frames=2).find("A dog")


@pytest.mark.parametrize("part", ["vision", "head"])
@pytest.mark.parametrize("command", ["answer", "find"])
def test_a_command_prints_one_line_and_no_answer(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, part: str
) -> None:
    broken(part).save_pretrained(tmp_path / "model")
    options = [text for option in OPTIONS for text in ("--option", option)] if command == "answer" else []
    given = [command, clip, "What is it?", *options, "--model", tmp_path / "model", "--save", tmp_path / "saved"]
    assert main([*map(str, given), "--device", "cpu", "--cache-dir", str(tmp_path / "cache")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.endswith(began_in(part))
    assert not (tmp_path / "saved").exists()


def test_the_page_s_functions_answer_with_the_error(clip: Path) -> None:
    model = broken("answerer")
    with serving(model, model_name="broken", port=None, settings=Settings()) as served:
        client = Client(served.url, verbose=False)
        with pytest.raises(AppError, match=BROKEN["answerer"]):
            client.predict(handle_file(str(clip)), "What is it?", OPTIONS, api_name="/answer")
        assert client.predict(handle_file(str(clip)), "A dog", api_name="/find")["frame_scores"]


def test_an_evaluation_ends_with_the_question_and_counts_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken("vision").save_pretrained(tmp_path / "model")
    options = settings(write_questions(tmp_path / "data"), model=tmp_path / "model", output=tmp_path / "run")
    assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *options]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "question 'TN_0' has scores" in line
    assert line.endswith(began_in("vision"))
    assert not (tmp_path / "run" / "metrics.json").exists()
    kept = [
        json.loads(row) for file in (tmp_path / "run" / "partial").glob("*") for row in file.read_text().splitlines()
    ]
    assert [row for row in kept if row.get("choice") is not None] == []


def test_a_question_that_outgrows_the_precision_is_reported_and_the_others_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SeViLA.answer

    def outgrown(self: SeViLA, tokens: torch.Tensor, prompts: list[str], **options: Any) -> OptionLogits:
        found = answer(self, tokens, prompts, **options)
        lost = torch.tensor(["What is very very near" in prompt for prompt in prompts])
        return replace(found, logits=found.logits.masked_fill(lost[:, None], torch.inf))

    data = write_questions(tmp_path / "data")
    lavis.load_model("sevila", "tiny", device="cpu").save_pretrained(tmp_path / "model")
    rows = {}
    for name in ("whole", "outgrown"):
        options = settings(data, model=tmp_path / "model", output=tmp_path / name)
        assert main(["evaluate", "--cfg-path", str(recipe("nextqa")), "--options", *options]) == 0
        rows[name] = {row["id"]: row for row in read_lines(tmp_path / name / "predictions.jsonl")}
        monkeypatch.setattr(SeViLA, "answer", outgrown)
    assert {key: row["choice"] for key, row in rows["outgrown"].items() if key != "DO_2"} == {
        key: row["choice"] for key, row in rows["whole"].items() if key != "DO_2"
    }
    failed = rows["outgrown"]["DO_2"]
    assert (rows["whole"]["DO_2"]["unreadable"], failed["choice"], failed["option_scores"]) == (None, None, [])
    reason = (
        "question 'DO_2' has scores that are not finite; they began in the language model, computed in torch.float32"
    )
    assert failed["unreadable"] == f"{reason}; try another dtype"
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "outgrown")]
    assert metrics[1]["questions"] == metrics[0]["questions"]
    assert metrics[1]["unreadable"] == metrics[0]["unreadable"] + 1
    assert reason in (tmp_path / "outgrown" / "report.md").read_text()
