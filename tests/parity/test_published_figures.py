"""Every figure measured from the published implementation, and that the comparison notices a change."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

import parity.loop
from lavis.cli.main import main
from lavis.models.sevila.model import SeViLA
from lavis.runners.optim import build_adamw
from parity.checks import FLOAT64
from parity.directory import GoldenDirectory
from parity.verify import Verification, verify_directory

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden"
FP32 = Path(__file__).parent / "golden_fp32"
INPUTS = ("config.json", "state_dict.safetensors", "videos.safetensors", "tokenizer/tokenizer.json")


def names(folder: Path) -> list[str]:
    """Return the names of cases and loops."""
    cases = [case["name"] for case in json.loads((folder / "cases.json").read_text())]
    return [*cases, *json.loads((folder / "train_loop.json").read_text())]


TASKS = [f"task {task['task']}" for task in json.loads((GOLDEN / "tasks.json").read_text())]


@pytest.fixture(scope="session")
def report() -> Verification:
    return verify_directory(GOLDEN)


@pytest.mark.parametrize("case", ["config", "pos_embed", *names(GOLDEN), *TASKS, "tensors"])
def test_figures_of_case_are_equal(report: Verification, case: str) -> None:
    checks = report.by_case()[case]
    assert [check for check in checks if not check.passed] == []
    assert len(checks) > 0


def test_float64_is_compared_to_the_stated_tolerance(report: Verification) -> None:
    assert report.precision == FLOAT64
    assert (FLOAT64.case, FLOAT64.loop) == (1e-10, 1e-8)
    tensors = load_file(GOLDEN / "tensors.safetensors").values()
    assert {value.dtype for value in tensors} == {torch.float64, torch.int64}
    kinds = {case["t5_dtype"] for case in json.loads((GOLDEN / "cases.json").read_text())}
    assert kinds == {"fp64"}


def lay_out(directory: Path, *, source: Path, cases: set[str], loops: set[str] = frozenset()) -> Path:  # type: ignore[assignment]
    """Make a directory of some cases and loops, with the inputs that all figures share."""
    (directory / "tokenizer").mkdir()
    for name in INPUTS:
        (directory / name).symlink_to(GOLDEN / name)
    kept = {k: v for k, v in load_file(source / "tensors.safetensors").items() if k.partition("/")[0] in cases | loops}
    save_file(kept, directory / "tensors.safetensors")
    found = json.loads((source / "cases.json").read_text())
    (directory / "cases.json").write_text(json.dumps([case for case in found if case["name"] in cases]))
    if loops:
        every = json.loads((source / "train_loop.json").read_text())
        (directory / "train_loop.json").write_text(json.dumps({name: every[name] for name in sorted(loops)}))
    return directory


@pytest.fixture
def small_directory(tmp_path: Path) -> Path:
    """A directory with two cases, so that each run takes a second."""
    return lay_out(tmp_path, source=GOLDEN, cases={"chain_vid_k1", "train_self_refine"})


@pytest.fixture
def loop_directory(tmp_path: Path) -> Path:
    return lay_out(tmp_path, source=GOLDEN, cases={"train_fmr"}, loops={"loop_fmr"})


def change_json(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        content = json.loads((directory / name).read_text())
        change(content)
        (directory / name).unlink()
        (directory / name).write_text(json.dumps(content))

    return apply


def change_tensor(file: str, name: str, *, by: float = 0.05) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        tensors = load_file(directory / file)
        changed = tensors[name].clone()
        changed.view(-1)[0] += 1 if changed.dtype.is_floating_point is False else by
        # The inputs are links to what all tests read.
        (directory / file).unlink()
        save_file({**tensors, name: changed}, directory / file)

    return apply


def set_in(content: Any, *path: Any, value: Any) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


def scale_in(content: Any, *path: Any, by: float) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] *= by


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
    **{
        f"{name}, by a billionth": change_json("cases.json", lambda c, path=path: scale_in(c, *path, by=1 + 1e-9))
        for name, path in {
            "the largest yes logit": (0, "loc_yes_logits", 0, 3),
            "the largest answer logit": (0, "answer_logits", 0, 0),
            "a loss": (1, "loss"),
            "another loss": (1, "qa_loss_unused"),
            "a gradient's norm": (1, "grads", "query_tokens_loc", "norm"),
        }.items()
    },
    "a tensor's entry, by a billionth": change_tensor("tensors.safetensors", "chain_vid_k1/t5_proj_loc", by=1e-8),
}


def test_unchanged_directory_passes(small_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(small_directory)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("are equal within tolerance")


def test_an_editable_install_verifies_from_any_directory(small_directory: Path, tmp_path: Path) -> None:
    """Only the package is on the path, as an editable install has it; what lies beside it in the checkout is not."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "lavis").symlink_to(ROOT / "lavis", target_is_directory=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "lavis", "verify", str(small_directory)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1].split()[-1]) == (0, "tolerance"), done.stderr


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


LOOP_CHANGES: dict[str, Callable[[Any], None]] = {
    **{f"loss {n} by 1e-7": lambda c, n=n: set_in(c, "losses", n, value=c["losses"][n] + 1e-7) for n in range(10)},
    "a learning rate by a millionth": lambda c: scale_in(c, "lrs", 3, by=1 + 1e-6),
    "a parameter's sum": lambda c: scale_in(c, "params_after_epoch1", "t5_proj_loc.bias", "sum", by=1 + 1e-6),
    "the norm of a key's bias": lambda c: scale_in(
        c, "params_after_epoch0", "Qformer_loc.bert.encoder.layer.0.attention.self.key.bias", "norm", by=1 + 1e-6
    ),
}


def test_each_changed_number_of_a_loop_is_noticed_alone(loop_directory: Path) -> None:
    """All at once, since ten iterations take seconds: each change makes one figure differ, and no other does."""
    change_json("train_loop.json", lambda c: [change(c["loop_fmr"]) for change in LOOP_CHANGES.values()])(
        loop_directory
    )
    failures = [check.quantity for check in verify_directory(loop_directory).failures]
    assert failures == [
        *(f"loss {n}" for n in range(3)),
        "loss 3",
        "learning rate 3",
        "loss 4",
        "norm of Qformer_loc.bert.encoder.layer.0.attention.self.key.bias after epoch 0",
        *(f"loss {n}" for n in range(5, 10)),
        "sum of t5_proj_loc.bias after epoch 1",
    ]


def with_eps(part: str, kind: type[nn.Module], name: str, eps: float) -> Callable[[SeViLA], None]:
    def change(model: SeViLA) -> None:
        for module in model.get_submodule(part).modules():
            if isinstance(module, kind):
                assert getattr(module, name) != eps
                setattr(module, name, eps)

    return change


# Faults that fp32 would hide: each changes figures by less than 1e-6.
FAULTS: dict[str, Callable[[SeViLA], None]] = {
    "vision epsilon 1.1e-6 for 1e-6": with_eps("vision", nn.LayerNorm, "eps", 1.1e-6),
    "T5 epsilon 1.01e-6 for 1e-6": with_eps("language", T5LayerNorm, "variance_epsilon", 1.01e-6),
    "Q-Former epsilon 1e-9 for 1e-12": with_eps("localizer.qformer", nn.LayerNorm, "eps", 1e-9),
    "LayerNorm epsilon 1.001e-5 for 1e-5": with_eps("localizer.norm", nn.LayerNorm, "eps", 1.001e-5),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_small_fault_of_the_model_is_noticed(
    small_directory: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = GoldenDirectory.build

    def faulty(directory: GoldenDirectory, **options: Any) -> SeViLA:
        model = build(directory, **options)
        FAULTS[fault](model)
        return model

    monkeypatch.setattr(GoldenDirectory, "build", faulty)
    failed = verify_directory(small_directory).failures
    assert {check.case for check in failed} >= {"chain_vid_k1", "train_self_refine"}
    assert max(check.error for check in failed if check.case == "chain_vid_k1") < 1e-4


def test_a_small_fault_of_the_optimizer_is_noticed(loop_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*args: Any, **options: Any) -> torch.optim.AdamW:
        optimizer = build_adamw(*args, **options)
        optimizer.register_step_pre_hook(
            lambda optimizer, *_: [g.update(eps=1.01e-8) for g in optimizer.param_groups] and None
        )
        return optimizer

    monkeypatch.setattr(parity.loop, "build_adamw", faulty)
    failures = verify_directory(loop_directory).failures
    assert {check.case for check in failures} == {"loop_fmr"}
    assert len(failures) > 5


@pytest.fixture
def fp32_directory(tmp_path: Path) -> Path:
    """Figures that the published code gave in fp32, and with the language model in bf16."""
    found = names(FP32)
    return lay_out(
        tmp_path, source=FP32, cases={n for n in found if "loop" not in n}, loops={"loop_fmr", "loop_train_qa"}
    )


def test_figures_in_fp32_and_bf16_are_equal_as_far_as_their_rounding_allows(
    fp32_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(fp32_directory)]) == 0
    *_, precision, verdict = capsys.readouterr().out.splitlines()
    assert "the figures were measured in fp32" in precision
    assert "their own rounding bounds the agreement" in precision
    assert verdict.endswith("are equal within tolerance")


def test_float64_figures_are_said_to_be_such(small_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(small_directory)]) == 0
    assert "computed in float64, as the figures were: compared to 1e-10 of" in capsys.readouterr().out


FP32_CHANGES: dict[str, Callable[[Path], None]] = {
    "a yes logit": change_json("cases.json", lambda c: scale_in(c, 0, "loc_yes_logits", 0, 3, by=1.001)),
    "an answer logit": change_json("cases.json", lambda c: scale_in(c, 0, "answer_logits", 0, 0, by=1.001)),
    "a chosen frame": change_json("cases.json", lambda c: set_in(c, 0, "out", "frame_idx", 0, 0, value=1)),
    "a loss": change_json("cases.json", lambda c: scale_in(c, 1, "loss", by=1.0001)),
    "a pseudo-label": change_json("cases.json", lambda c: set_in(c, 1, "pseudo_labels", 2, value="yes")),
    "a gradient's norm": change_json(
        "cases.json", lambda c: scale_in(c, 1, "grads", "query_tokens_loc", "norm", by=1.01)
    ),
}


@pytest.mark.parametrize("what", FP32_CHANGES)
def test_one_changed_number_in_fp32_is_noticed(tmp_path: Path, what: str) -> None:
    directory = lay_out(tmp_path, source=FP32, cases={"chain_vid_k1", "train_self_refine"})
    FP32_CHANGES[what](directory)
    assert len(verify_directory(directory).failures) == 1


def test_each_changed_loss_of_a_loop_in_fp32_is_noticed_alone_before_rounding_has_grown(tmp_path: Path) -> None:
    directory = lay_out(tmp_path, source=FP32, cases=set(), loops={"loop_fmr"})

    def change(content: Any) -> None:
        losses = content["loop_fmr"]["losses"]
        losses[:7] = [loss + 1e-3 for loss in losses[:7]]

    change_json("train_loop.json", change)(directory)
    assert [check.quantity for check in verify_directory(directory).failures] == [f"loss {n}" for n in range(7)]


@pytest.mark.parametrize("missing", ["config.json", "cases.json", "videos.safetensors", "tokenizer/tokenizer.json"])
def test_incomplete_directory_is_an_error(
    small_directory: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_directory / missing).unlink()
    assert main(["verify", str(small_directory)]) in (1, 2)
    assert Path(missing).name.partition(".")[0] in "".join(capsys.readouterr())
