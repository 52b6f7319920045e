"""Nothing of a stranger's model folder is run or asked about, and whatever is wrong with it is one line."""

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import T5ForConditionalGeneration

from lavis.cli.main import main
from lavis.common.errors import UserError
from lavis.models.language.t5 import t5_config
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.sevila.known_files import inspect
from lavis.models.sevila.model import SeViLA
from tests.architecture.source import ROOT
from tests.unit.models.tiny import CONFIG, with_language

CODE = "from pathlib import Path\nPath('pwned').touch()\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    SeViLA.untrained(CONFIG).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder to be spoilt, below the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(saved, tmp_path / "model"))


def changed(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def refused(read: Callable[[], object]) -> str:
    with pytest.raises(UserError) as raised:
        read()
    line = str(raised.value)
    assert "\n" not in line
    assert len(line) < 1000
    assert not Path("pwned").exists()
    return line


CONFIGS = {
    "not UTF-8": (b'{"name": "\xff"}', "config.json is damaged: it is not UTF-8"),
    "nested": (
        b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "config.json is damaged: it is nested too deeply",
    ),
    "a number of 5000 digits": (b'{"name": ' + b"9" * 5000 + b"}", "config.json is damaged: Exceeds the limit"),
    "empty": (b"", "config.json is damaged: Expecting value"),
    "a list": (b"[1]", "config.json: a mapping is needed, not [1]"),
    "too large": (b" " * 20_000_000, "config.json is damaged: it has 20,000,000 bytes, more than"),
}


@pytest.mark.parametrize(("content", "problem"), CONFIGS.values(), ids=CONFIGS.keys())
def test_a_configuration_that_is_none_is_named(content: bytes, problem: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    assert problem in refused(lambda: SeViLA.from_pretrained(folder))


@pytest.mark.parametrize(
    ("part", "key", "value", "problem"),
    [
        ("prompter", "depth", 10**9, "prompter: depth is 1000000000; it must be from 1 to 512"),
        ("prompter", "width", 0, "width is 0; it must be from 1 to 65536"),
        ("prompter", "num_heads", -2, "num_heads is -2; it must be from 1 to 1024"),
        ("prompter", "dropout", 1e400, "dropout is inf; it must be from 0 to below 1"),
        ("prompter", "attn_implementation", "evil/kernel", "unknown key 'attn_implementation'"),
        ("prompter", "vision_width", 5, "unknown key 'vision_width'"),
        ("args", "patch_size", 0, "patch_size is 0; it must be from 1 to 4096"),
        ("args", "depth", True, "depth: int is needed, not True"),
        ("args", "num_heads", "2", "num_heads: int is needed, not '2'"),
        ("args", "attn_implementation", "evil/kernel", "unknown key 'attn_implementation'"),
        ("sizes", "num_layers", 10**9, "num_layers is 1000000000; it must be from 1 to 512"),
        ("sizes", "d_model", -1, "d_model is -1; it must be from 1 to 65536"),
        ("sizes", "auto_map", {"AutoConfig": "evil.Config"}, "unknown key 'auto_map'"),
        ("sizes", "_attn_implementation", "evil/kernel", "unknown key '_attn_implementation'"),
        ("vision", "image_size", 10**6, "image_size is 1000000; it must be from 1 to 4096"),
        ("language", "max_text_length", 10**9, "max_text_length is 1000000000; it must be from 1 to 65536"),
        ("language", "auto_map", {"AutoModel": "evil.Model"}, "unknown key 'auto_map'"),
        ("weights", "note", "good\x1b[2J\x1b[1A", "it must be one line of up to 2000 printable characters"),
        ("weights", "status", "splendid", "unknown 'splendid'"),
        ("", "name", "a\nb", "it must be one line of up to 2000 printable characters"),
        ("", "image_mean", [float("nan"), 0.5, 0.5], "image_mean is nan; it must be a finite number"),
        ("", "image_std", [0.5, 0, 0.5], "image_std is 0.0; it must be above 0"),
        ("", "trust_remote_code", True, "unknown key 'trust_remote_code'"),
    ],
)
def test_what_no_part_can_be_is_refused_before_anything_is_built(
    part: str, key: str, value: object, problem: str, folder: Path
) -> None:
    def change(content: dict[str, Any]) -> None:
        places = {"args": content["vision"]["args"], "sizes": content["language"]["sizes"], "": content}
        (places[part] if part in places else content[part])[key] = value

    changed(folder / "config.json", change)
    assert problem in refused(lambda: SeViLA.from_pretrained(folder))


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("manifest.json", NESTED, "manifest.json is damaged: it is nested too deeply"),
        ("model.safetensors.index.json", NESTED, "is no index of weight files: it is nested too deeply"),
        ("model.safetensors.index.json", b"[]", "is no index of weight files: "),
        ("model.safetensors", len(NESTED + b'{"a":}').to_bytes(8, "little") + b'{"a":' + NESTED + b"}", "is damaged: "),
        (
            "model.safetensors",
            len(NESTED).to_bytes(8, "little") + NESTED,
            "is neither a safetensors nor a PyTorch file",
        ),
    ],
)
def test_other_json_of_a_folder_is_read_within_bounds(name: str, content: bytes, problem: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
    assert problem in refused(lambda: inspect(folder))


def test_saving_over_weights_whose_header_is_nested_without_end_replaces_them(folder: Path) -> None:
    content = len(NESTED + b'{"a":}').to_bytes(8, "little") + b'{"a":' + NESTED + b"}"
    (folder / "model.safetensors").write_bytes(content)
    SeViLA.untrained(CONFIG).save_pretrained(folder)
    SeViLA.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer/tokenizer.json", "model.safetensors", "manifest.json"])
def test_a_pipe_is_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    ran = subprocess.run(
        [sys.executable, "-m", "lavis", "checkpoint", "verify", str(folder)],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    # Without a manifest there is nothing to compare with.
    assert (ran.returncode == 0) == (name == "manifest.json")
    assert "Traceback" not in ran.stderr
    if name != "manifest.json":
        refused(lambda: SeViLA.from_pretrained(folder))


def with_code(place: Path, **auto_map: str) -> None:
    """Let the files of transformers name code that lies beside them."""
    (place / "evil.py").write_text(CODE)
    for name in ("config.json", "tokenizer_config.json"):
        file = place / name
        content = json.loads(file.read_text()) if file.is_file() else {}
        file.write_text(json.dumps({**content, "auto_map": auto_map, "trust_remote_code": True}))


def test_a_tokenizer_that_names_code_is_neither_run_nor_asked_about(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked"))
    place = folder / "tokenizer"
    with_code(place, AutoTokenizer="evil.Tokenizer")
    SeViLA.from_pretrained(folder)
    (place / "tokenizer.json").unlink()
    assert "no tokenizer at " in refused(lambda: SeViLA.from_pretrained(folder))
    assert "no tokenizer at " in refused(lambda: load_tokenizer(str(place)))
    assert "run the custom code" not in "".join(capsys.readouterr())


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Path) -> Path:
    """A language model of transformers, below the working directory."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "t5"
    T5ForConditionalGeneration(t5_config(**CONFIG.language.sizes)).save_pretrained(place)
    shutil.copy(saved / "tokenizer" / "tokenizer.json", place)
    return place


def build_with(language: Path) -> SeViLA:
    return SeViLA.from_config(with_language(sizes={}, pretrained=str(language), tokenizer=None))


def test_a_language_model_that_names_code_or_kernels_is_loaded_without_them(language: Path) -> None:
    with_code(language, AutoConfig="evil.Config", AutoModelForSeq2SeqLM="evil.Model")
    kernels = {"attn_implementation": "evil/kernel", "_attn_implementation": "evil/kernel"}
    changed(language / "config.json", lambda content: content.update(kernels))
    model = build_with(language)
    assert model.language.model.config._attn_implementation in ("sdpa", "eager")
    assert not Path("pwned").exists()


def test_a_language_model_of_unknown_kind_is_refused_without_a_question(
    language: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nobody is asked"))
    with_code(language, AutoConfig="evil.Config", AutoModelForSeq2SeqLM="evil.Model")
    changed(language / "config.json", lambda content: content.update(model_type="evil"))
    assert "'evil' is not built like T5" in refused(lambda: build_with(language))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (CODE,)


@pytest.mark.parametrize("kind", ["pickle", "archive"])
def test_weights_that_carry_code_are_not_run(kind: str, language: Path) -> None:
    (language / "model.safetensors").unlink()
    file = language / "pytorch_model.bin"
    if kind == "pickle":
        file.write_bytes(pickle.dumps({"shared.weight": Evil()}))
    else:
        torch.save({"shared.weight": Evil()}, file)
    assert "cannot be loaded" in refused(lambda: build_with(language))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"{}", b"[]"])
def test_damaged_files_of_a_language_model_are_one_line(name: str, content: bytes, language: Path) -> None:
    (language / name).write_bytes(content)
    if name == "generation_config.json":  # transformers passes over some of these: nothing of it is needed
        with suppress(UserError):
            build_with(language)
    else:
        refused(lambda: build_with(language))


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


TOKENIZERS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a pattern of its own": (
        lambda content: content.update(normalizer=replace({"Regex": "(a+)+" * 40 + "$"}, "")),
        "the pattern '(a+)+(a+)+",
    ),
    "a pattern too large to compile": (
        lambda content: content.update(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "((a{99}){99}){99}"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        "pre_tokenizer: unknown 'Split'",
    ),
    "text that grows": (
        lambda content: content.update(
            normalizer={"type": "Sequence", "normalizers": [replace({"String": "a"}, "a" * 10)] * 9}
        ),
        "its normalizer can make a text 1e+09 times longer, not 64",
    ),
    "one long replacement": (
        lambda content: content.update(normalizer=replace({"String": "a"}, "a" * 10**6)),
        "its normalizer can make a text 1e+06 times longer",
    ),
    "text put before": (
        lambda content: content.update(normalizer={"type": "Prepend", "prepend": "a" * 10**6}),
        "Prepend adds more than 16 characters",
    ),
    "a table of long words": (
        lambda content: content.update(
            normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAAAG" + "FhYW" * 400 + "AA"}
        ),
        "precompiled_charsmap is damaged, or makes a text much longer",
    ),
    "no table": (
        lambda content: content.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "???"}),
        "precompiled_charsmap is damaged",
    ),
    "many steps": (
        lambda content: content.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFKD"}] * 10**5}),
        "normalizers is no list of up to 16 steps",
    ),
    "a template that adds": (
        lambda content: content["post_processor"].update(single=[{"Sequence": {"id": "A", "type_id": 0}}] * 1000),
        "its template adds more than 16 tokens",
    ),
    "a token that is many": (
        lambda content: content["post_processor"]["special_tokens"]["</s>"].update(ids=[1] * 10**5),
        "a special token of its template stands for several",
    ),
    "an unknown step": (lambda content: content.update(decoder={"type": "Evil"}), "decoder: unknown 'Evil'"),
    "a step that is none": (
        lambda content: content.update(normalizer=["NFC"]),
        "up to 16 steps are read, each a mapping",
    ),
    "no model": (lambda content: content.pop("model"), "it describes no tokenizer"),
    "a vocabulary that is none": (lambda content: content["model"].update(vocab=[["a"]]), "is damaged: "),
    "an end that is missing": (lambda content: content["model"].update(unk_id=10**6), "is damaged: "),
}


@pytest.mark.parametrize(("change", "problem"), TOKENIZERS.values(), ids=TOKENIZERS.keys())
def test_a_tokenizer_does_only_what_t5_needs(
    change: Callable[[dict[str, Any]], object], problem: str, folder: Path
) -> None:
    changed(folder / "tokenizer" / "tokenizer.json", change)
    assert problem in refused(lambda: SeViLA.from_pretrained(folder))


def test_the_published_tokenizer_is_what_t5_needs() -> None:
    published = load_tokenizer(ROOT / "tests" / "parity" / "golden" / "tokenizer")
    assert published("Frame: ").input_ids[-1] == published.eos_token_id


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b"{}", b"[]", b"null", b'{"model": {}}'])
def test_a_damaged_tokenizer_is_named(content: bytes, folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_bytes(content)
    assert "tokenizer" in refused(lambda: SeViLA.from_pretrained(folder))


def test_a_tokenizer_whose_table_leads_nowhere_fails_in_one_line(folder: Path) -> None:
    """A trie whose every entry points far beyond the table makes the library panic when it reads a text."""
    table = (1024).to_bytes(4, "little") + b"\xff\x7f\xff\x0f" * 256 + b"a\0"
    normalizer = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
    changed(folder / "tokenizer" / "tokenizer.json", lambda content: content.update(normalizer=normalizer))
    assert "the tokenizer is damaged: index out of bounds" in refused(lambda: SeViLA.from_pretrained(folder))


def test_a_command_says_it_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(folder / "config.json", lambda content: content["prompter"].update(attn_implementation="evil/kernel"))
    clip = next((ROOT / "sevila_checkpoints" / "clips").glob("*.mp4"))
    assert main(["answer", str(clip), "What?", "--option", "a", "--option", "b", "--model", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown key 'attn_implementation'" in line
