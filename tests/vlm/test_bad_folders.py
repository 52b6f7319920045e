"""Folders and models that cannot be used are refused in one line that names the way out, and nothing of them is run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lavis
from lavis.cli.main import main
from lavis.common.errors import EXIT_FAILURE, EXIT_USER_ERROR, OUT_OF_MEMORY, UserError

pytestmark = pytest.mark.vlm


@pytest.fixture
def folder(folder_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder of its own for each test."""
    return Path(shutil.copytree(folder_of("smolvlm"), tmp_path / "mine"))


@pytest.fixture
def refused(clip: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns the one line with which a folder is refused, in Python and by the command."""

    def line(folder: Path, *options: str) -> str:
        with pytest.raises(UserError) as caught:
            lavis.load_model(model_type=str(folder), device="cpu").watch(clip, num_frames=8).ask(
                "Is it red?", ["a", "b", "c"], num_keyframes=4
            )
        command = ["answer", str(clip), "Is it red?", *(f"--option={letter}" for letter in "abc"), "--no-cache"]
        assert main([*command, "--model", str(folder), "--num-frames", "8", *options]) == EXIT_USER_ERROR
        printed = capsys.readouterr().err.splitlines()
        assert printed[-1].startswith("error: "), printed
        assert printed[-1] == f"error: {caught.value}"
        assert not [one for one in printed if "Traceback" in one]
        return str(caught.value)

    return line


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_model_of_another_kind(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    assert refused(folder) == (
        f"{folder} is no image-text model of transformers: its model_type is 'bert'; "
        "name another, such as smolvlm2-500m"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "{}", '{"model_type": 3}', '{"model_type": "nonsense"}'])
def test_a_configuration_that_says_nothing(folder: Path, refused: Callable[..., str], text: str) -> None:
    (folder / "config.json").write_text(text)
    assert str(folder) in refused(folder)


def test_sizes_that_weights_do_not_have(folder: Path, refused: Callable[..., str]) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["text_config"]["hidden_size"] = 64
    (folder / "config.json").write_text(json.dumps(content))
    assert refused(folder) == (
        f"{folder} cannot be loaded: its weights have other sizes than its config.json says; "
        "its files are damaged, or of another model"
    )


@pytest.mark.parametrize("value", [-1, 0, "wide", None, 10**12])
def test_sizes_that_cannot_be(folder: Path, refused: Callable[..., str], value: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["text_config"]["num_attention_heads"] = value
    (folder / "config.json").write_text(json.dumps(content))
    assert refused(folder).startswith(f"{folder} cannot be loaded: ")


def test_a_folder_without_a_processor(folder: Path, refused: Callable[..., str]) -> None:
    (folder / "processor_config.json").unlink()
    assert refused(folder) == (
        f"{folder} has no processor_config.json or preprocessor_config.json; "
        "save the model's processor there too (save_pretrained)"
    )


def test_a_folder_without_a_tokenizer(folder: Path, refused: Callable[..., str]) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert refused(folder) == (
        f"{folder} has no tokenizer.json or tokenizer_config.json; "
        "save the model's processor there too (save_pretrained)"
    )


def test_a_tokenizer_without_the_words_that_answers_are_read_from(folder: Path, refused: Callable[..., str]) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    model = content["model"]
    model["merges"] = [pair for pair in model["merges"] if "no" not in "".join(pair).lower()]
    path.write_text(json.dumps(content))
    assert refused(folder) == (
        "the tokenizer of mine writes 'no' as several tokens, so its answer cannot be read; use another model"
    )


def test_a_tokenizer_without_a_letter(folder: Path, refused: Callable[..., str]) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"String": "C"}, "content": "xxx"}
    path.write_text(json.dumps(content))
    assert refused(folder) == (
        "the tokenizer of mine writes 'C' as several tokens, so its answer cannot be read; use another model"
    )


def test_more_frames_than_the_model_reads(folder: Path, refused: Callable[..., str]) -> None:
    content = json.loads((folder / "config.json").read_text())
    content["text_config"]["max_position_embeddings"] = 150
    (folder / "config.json").write_text(json.dumps(content))
    line = refused(folder)
    assert line.startswith("4 frames and the question make ")
    assert line.endswith(" tokens, and mine reads 150; ask for fewer keyframes, or fewer tokens per frame")


def test_a_model_without_a_chat_template(folder: Path, refused: Callable[..., str]) -> None:
    for path in folder.glob("chat_template*"):
        path.unlink()
    assert refused(folder) == "mine has no chat template; use a model that was tuned to follow instructions"


def test_a_family_that_comes_without_a_chat_template(
    folder_of: Callable[[str], Path], refused: Callable[..., str]
) -> None:
    line = refused(folder_of("paligemma"))
    assert line == "paligemma has no chat template; use a model that was tuned to follow instructions"


def test_a_folder_without_a_model(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    command = ["answer", str(clip), "Is it red?", "--option=a", "--option=b", "--no-cache", "--model", str(tmp_path)]
    assert main(command) == EXIT_USER_ERROR
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert str(tmp_path) in line


@pytest.mark.parametrize(
    "template", ["{% for", "{{ nothing.at.all }}", "{{ raise_exception('no') }}", "no pictures", "{{ 1 / 0 }}"]
)
def test_a_chat_template_that_cannot_be_used(folder: Path, refused: Callable[..., str], template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    assert "mine" in refused(folder)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path("sprung").touch, ()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_are_not_opened(
    folder: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Trap()}, folder / name)
    assert refused(folder).startswith(f"{folder} cannot be loaded: ")
    assert not (tmp_path / "sprung").exists()


def test_weights_that_are_cut(folder: Path, refused: Callable[..., str]) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert refused(folder).endswith("; its files are damaged, or of another model")


CANARY = """
from pathlib import Path
Path({path!r}).touch()
from transformers import {base} as Base
class Mine(Base):
    pass
"""


@pytest.mark.parametrize(
    ("file", "auto", "base"),
    [
        ("config.json", "AutoConfig", "SmolVLMConfig"),
        ("config.json", "AutoModelForImageTextToText", "SmolVLMForConditionalGeneration"),
        ("processor_config.json", "AutoProcessor", "SmolVLMProcessor"),
        ("processor_config.json", "AutoImageProcessor", "SmolVLMImageProcessor"),
        ("tokenizer_config.json", "AutoTokenizer", "PreTrainedTokenizerFast"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_code_in_a_folder_is_never_run(
    folder: Path, clip: Path, tmp_path: Path, file: str, auto: str, base: str, known: bool
) -> None:
    canary = tmp_path / "sung"
    (folder / "mine.py").write_text(CANARY.format(path=str(canary), base=base))
    reference = [None, "mine.Mine"] if auto == "AutoTokenizer" else "mine.Mine"
    edit(folder / file, auto_map={auto: reference})
    if not known:
        edit(folder / "config.json", model_type="of_its_own", architectures=["Mine"])
    said = ""
    try:
        lavis.load_model("hf", folder, device="cpu").watch(clip, num_frames=2).ask("Is it red?", ["a", "b"])
    except UserError as error:
        said = str(error)
    assert not canary.exists()
    assert bool(said) is not known or "--trust-remote-code" in said
    if not known and auto == "AutoConfig":
        assert said.endswith("it brings code of its own, which runs only with --trust-remote-code")


def test_code_in_a_folder_runs_where_it_is_trusted(folder: Path, clip: Path, tmp_path: Path) -> None:
    canary = tmp_path / "sung"
    (folder / "mine.py").write_text(CANARY.format(path=str(canary), base="SmolVLMForConditionalGeneration"))
    edit(folder / "config.json", auto_map={"AutoModelForImageTextToText": "mine.Mine"})
    lavis.load_model("hf", folder, device="cpu", trust_remote_code=True)
    assert canary.exists()


def test_kernels_that_a_configuration_names_are_not_fetched(
    folder: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was made"))
    content = json.loads((folder / "config.json").read_text())
    for part in (content, content["text_config"], content["vision_config"]):
        for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
            part[key] = "somebody/kernel"
    (folder / "config.json").write_text(json.dumps(content))
    model = lavis.load_model("hf", folder, device="cpu")
    assert model.watch(clip, num_frames=2).ask("Is it red?", ["a", "b"]).index in (0, 1)
    assert {part.config._attn_implementation for part in model.network.modules() if hasattr(part, "config")} == {"sdpa"}


def test_no_memory(
    folder: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import SmolVLMForConditionalGeneration

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB\nmore")

    monkeypatch.setattr(SmolVLMForConditionalGeneration, "forward", full)
    command = ["answer", str(clip), "Is it red?", "--option=a", "--option=b", "--no-cache", "--model", str(folder)]
    assert main(command) == EXIT_FAILURE
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {OUT_OF_MEMORY}"
