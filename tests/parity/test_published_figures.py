"""Every figure measured from the published implementation, and that the comparison notices a change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from lavis.cli.main import main
from lavis.parity.checks import TOLERANCE
from lavis.parity.verify import Report, verify_directory

GOLDEN = Path(__file__).parent / "golden"
CASES = [case["name"] for case in json.loads((GOLDEN / "cases.json").read_text())]
TASKS = [f"task {task['task']}" for task in json.loads((GOLDEN / "tasks.json").read_text())]
LOOPS = list(json.loads((GOLDEN / "train_loop.json").read_text()))


@pytest.fixture(scope="session")
def report() -> Report:
    return verify_directory(GOLDEN)


@pytest.mark.parametrize("case", ["config", "pos_embed", *CASES, *TASKS, *LOOPS, "tensors"])
def test_figures_of_case_are_equal(report: Report, case: str) -> None:
    checks = report.by_case()[case]
    assert [check for check in checks if not check.passed] == []
    assert len(checks) > 0


def test_fp32_is_compared_to_the_stated_tolerance() -> None:
    assert TOLERANCE == 1e-4


@pytest.fixture
def small_directory(tmp_path: Path) -> Path:
    """A directory with two cases, so that each run takes a second."""
    wanted = {"chain_vid_k1", "train_self_refine"}
    shutil.copytree(GOLDEN / "tokenizer", tmp_path / "tokenizer")
    for name in ("config.json", "state_dict.safetensors"):
        shutil.copyfile(GOLDEN / name, tmp_path / name)
    save_file(
        {name: v for name, v in load_file(GOLDEN / "videos.safetensors").items() if name in ("main", "train")},
        tmp_path / "videos.safetensors",
    )
    kept = {k: v for k, v in load_file(GOLDEN / "tensors.safetensors").items() if k.partition("/")[0] in wanted}
    save_file(kept, tmp_path / "tensors.safetensors")
    cases = [case for case in json.loads((GOLDEN / "cases.json").read_text()) if case["name"] in wanted]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    return tmp_path


def change_json(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        content = json.loads((directory / name).read_text())
        change(content)
        (directory / name).write_text(json.dumps(content))

    return apply


def change_tensor(file: str, name: str) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        tensors = load_file(directory / file)
        changed = tensors[name].clone()
        changed.view(-1)[0] += 1 if changed.dtype.is_floating_point is False else 0.05
        save_file({**tensors, name: changed}, directory / file)

    return apply


def set_in(content: Any, *path: Any, value: Any) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


CHANGES: dict[str, Callable[[Path], None]] = {
    "a yes logit": change_json("cases.json", lambda c: set_in(c, 0, "loc_yes_logits", 1, 2, value=0.7)),
    "a chosen frame": change_json("cases.json", lambda c: set_in(c, 0, "out", "frame_idx", 0, 0, value=1)),
    "an answer": change_json("cases.json", lambda c: set_in(c, 0, "out", "output_text", 1, value=3)),
    "a token id": change_json("cases.json", lambda c: set_in(c, 0, "tokenizer_calls", 1, "input_ids", 0, 3, value=9)),
    "a margin": change_json("cases.json", lambda c: set_in(c, 0, "answer_margin", value=0.5)),
    "a loss": change_json("cases.json", lambda c: set_in(c, 1, "loss", value=7.1)),
    "a pseudo-label": change_json("cases.json", lambda c: set_in(c, 1, "pseudo_labels", 2, value="yes")),
    "a gradient's norm": change_json(
        "cases.json", lambda c: set_in(c, 1, "grads", "query_tokens_loc", "norm", value=0.5)
    ),
    "a figure nobody knows": change_json("cases.json", lambda c: set_in(c, 0, "new_figure", value=1.0)),
    "a task that means nothing": change_json("cases.json", lambda c: set_in(c, 0, "task", value="freeze_vid")),
    "a size": change_json("config.json", lambda c: set_in(c, "ids", "yes_id", value=9)),
    "a weight": change_tensor("state_dict.safetensors", "Qformer_loc.bert.encoder.layer.0.attention.self.query.weight"),
    "an alias of the embedding": change_tensor("state_dict.safetensors", "t5_model.encoder.embed_tokens.weight"),
    "a pixel": change_tensor("videos.safetensors", "main"),
    "an intermediate tensor": change_tensor("tensors.safetensors", "chain_vid_k1/t5_proj_loc"),
    "a mask": change_tensor("tensors.safetensors", "chain_vid_k1/loc.attention_mask"),
}


def test_unchanged_directory_passes(small_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(small_directory)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("are equal within tolerance")


@pytest.mark.parametrize("what", CHANGES)
def test_one_changed_number_is_noticed(small_directory: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    CHANGES[what](small_directory)
    code = main(["verify", str(small_directory)])
    printed = capsys.readouterr()
    if code == 1:
        assert "DIFFERS" in printed.out
        assert printed.out.splitlines()[-1].endswith("differ")
    else:
        assert code == 2
        assert printed.err.startswith("error: ")


@pytest.mark.parametrize("missing", ["config.json", "cases.json", "videos.safetensors", "tokenizer/tokenizer.json"])
def test_incomplete_directory_is_an_error(
    small_directory: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_directory / missing).unlink()
    assert main(["verify", str(small_directory)]) in (1, 2)
    assert Path(missing).name.partition(".")[0] in "".join(capsys.readouterr())
