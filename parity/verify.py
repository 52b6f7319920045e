"""Running every case of a directory of golden figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from lavis.cli.common import say
from lavis.common.errors import CheckpointError, UserError
from lavis.models.language.tokenizer import single_token_id
from lavis.models.vision.blip2 import interpolate_position_embedding
from lavis.processors.prompts import OPTION_LETTERS
from parity.bf16 import check_bf16_inference, check_bf16_training
from parity.checks import BF16_VISION_TOLERANCE, DISTURBANCE, FLOAT32, FLOAT64, Check, Checks, Precision
from parity.directory import Case, GoldenDirectory
from parity.inference import answers_at_all, check_inference
from parity.loop import check_loop, check_task
from parity.training import check_training, published_task

_PRECISIONS = {"fp64": FLOAT64, "fp32": FLOAT32}


@dataclass(frozen=True)
class Verification:
    """All comparisons of a directory.

    Attributes:
        precision: what the directory's figures allow.
    """

    checks: list[Check]
    precision: Precision

    @property
    def passed(self) -> bool:
        """Whether there were any, and all passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        """The comparisons that did not pass."""
        return [check for check in self.checks if not check.passed]

    def by_case(self) -> dict[str, list[Check]]:
        """Return the comparisons of each case, in order."""
        cases: dict[str, list[Check]] = {}
        for check in self.checks:
            cases.setdefault(check.case, []).append(check)
        return cases


def verify_directory(path: str | Path, *, progress: Callable[[str], None] | None = None) -> Verification:
    """Build the model of a directory, run every case in float64, and compare every figure it holds.

    Args:
        progress: called with the name of each case before it runs.

    Raises:
        CheckpointError: the directory is not one, or its weights do not fit its sizes.
    """
    directory = GoldenDirectory(path)
    checks: list[Check] = []
    for name, run in _work(directory):
        if progress:
            progress(name)
        checks += run().results
    return Verification(checks, directory.precision)


def print_verification(verification: Verification, *, every: bool) -> None:
    """Print one line per case, or per figure where one differs or all are wanted."""
    say(f"{'case':<48} {'quantity':<44} {'error':>9} {'allowed':>9}  verdict")
    for case, checks in verification.by_case().items():
        failed = [check for check in checks if not check.passed]
        worst = max(checks, key=lambda check: check.error / (check.allowed or 1.0))
        for check in checks if every else failed or [worst]:
            verdict = "equal" if check.passed else "DIFFERS"
            of_many = "" if every or failed else f" (worst of {len(checks)})"
            row = f"{case:<48} {check.quantity + of_many:<44} {check.error:>9.2g} {check.allowed:>9.2g}  {verdict}"
            say(f"{row} {check.note}".rstrip())
    say(_basis(verification.precision))
    counted = f"{len(verification.checks)} figures in {len(verification.by_case())} cases"
    if verification.passed:
        say(f"all {counted} are equal within tolerance")
    else:
        say(f"{len(verification.failures)} of {counted} differ")


def _basis(precision: Precision) -> str:
    """Say how closely the figures were compared, and why."""
    if precision.is_exact:
        loop = f"to {precision.loop:g} after optimizer steps"
        return f"computed in float64, as the figures were: compared to {precision.case:g} of their scale, {loop}"
    return (
        "computed in float64; the figures were measured in fp32, and their own rounding bounds the agreement: compared "
        f"to {precision.case:g} of their scale, and as far as such rounding in the weights carries them"
    )


def _work(directory: GoldenDirectory) -> Iterator[tuple[str, Callable[[], Checks]]]:
    names = {case["name"] for case in directory.cases} | {"pos_embed"}
    yield "config", lambda: _check_config(directory)
    yield "pos_embed", lambda: _check_position_embeddings(directory)
    for content in directory.cases:
        yield content["name"], lambda content=content: _check_case(directory, content)  # type: ignore[misc]
    if (directory.path / "tasks.json").is_file():
        for content in directory.read_json("tasks.json"):
            yield f"task {content['task']}", lambda content=content: _check_task(directory, content)  # type: ignore[misc]
    if (directory.path / "train_loop.json").is_file():
        loops = directory.read_json("train_loop.json")
        names |= set(loops)
        for name, loop in loops.items():
            yield name, lambda name=name, loop=loop: _check_loop(directory, name, loop)  # type: ignore[misc]
    yield "tensors", lambda: _check_all_tensors_known(directory, names)


def _check_case(directory: GoldenDirectory, content: dict[str, Any]) -> Checks:
    case = Case(content, directory)
    if "error" in case:
        return _guarded(Checks(case["name"]), lambda checks: _check_published_failure(directory, case, checks))
    kind, trains = case.get("t5_dtype"), case.get("method") == "forward+backward"
    if kind == "bf16":
        check = check_bf16_training if trains else check_bf16_inference
        model = directory.build(dtype=torch.bfloat16)
        return _guarded(
            Checks(case["name"], tolerance=BF16_VISION_TOLERANCE), lambda checks: check(model, case, checks)
        )
    if kind not in _PRECISIONS:
        checks = Checks(case["name"])
        checks.fail("t5_dtype", f"{kind!r} is unknown; known: {', '.join(_PRECISIONS)}, bf16")
        return checks

    def run(checks: Checks, disturbance: float) -> None:
        check = check_training if trains else check_inference
        check(directory.build(disturbance=disturbance), case, checks)
        if "tensors" in case:
            # A remark that no tensors are stored for this case.
            checks.equal("tensors", case["tensors"], "not stored (only the JSON values)")
        for name in case.unused():
            checks.fail(name, "no comparison covers this figure")

    return _compared(case["name"], _PRECISIONS[kind], _PRECISIONS[kind].case, run)


def _check_loop(directory: GoldenDirectory, name: str, loop: dict[str, Any]) -> Checks:
    def run(checks: Checks, disturbance: float) -> None:
        check_loop(directory, name, loop, checks, disturbance=disturbance)

    return _compared(name, directory.precision, directory.precision.loop, run)


def _compared(name: str, precision: Precision, tolerance: float, run: Callable[[Checks, float], None]) -> Checks:
    """Run comparisons; before, where figures are rounded, find out how far a disturbance carries them."""
    disturbed = Checks(name)
    if not precision.is_exact:
        _guarded(disturbed, lambda checks: run(checks, DISTURBANCE))
    return _guarded(Checks(name, tolerance=tolerance, disturbed=disturbed.numbers), lambda checks: run(checks, 0.0))


def _check_published_failure(directory: GoldenDirectory, case: Case, checks: Checks) -> None:
    """Where the published code fails there is nothing to compare: ours must either work or refuse clearly."""
    checks.equal("batch and frames", list(case.pixels.shape[:2]), [case["b"], case["t"]])
    try:
        task = published_task(case)
    except UserError as error:
        checks.holds("refused", condition=str(error).startswith("unknown task"), note=str(error))
        return
    if case["method"] == "forward+backward":
        checks.equal("trains nothing", task.objective, None)
        return
    checks.holds("answers where the published code fails", condition=answers_at_all(directory.build(), case, task))


def _check_config(directory: GoldenDirectory) -> Checks:
    def run(checks: Checks) -> None:
        config, model = directory.config, directory.build()
        tokenizer, vision_tower = model.language.tokenizer, cast("Any", model.vision)
        letters = OPTION_LETTERS[: len(config["ids"]["answer_id"])]
        ours = [single_token_id(tokenizer, letter) for letter in letters]
        checks.equal("answer ids", ours, config["ids"]["answer_id"])
        checks.equal("yes id", model.language.yes_id, config["ids"]["yes_id"])
        checks.equal("no id", model.language.no_id, config["ids"]["no_id"])
        checks.equal("option id", single_token_id(tokenizer, "Option"), config["ids"]["option_id"])
        checks.equal("tokenizer length", len(tokenizer), config["tokenizer_len"])
        checks.equal("vocabulary", model.language.model.lm_head.out_features, config["vocab_size"])
        checks.equal("vision epsilon", vision_tower.model.config.layer_norm_eps, config["vit_norm_eps"])
        checks.equal("LayerNorm epsilon", model.localizer.norm.eps, config["ln_vision_eps"])
        epsilon = model.localizer.qformer.config.layer_norm_eps
        checks.equal("Q-Former epsilon", epsilon, config["bert_full"]["layer_norm_eps"])
        for key, value in config["sizes"]["bert"].items():
            checks.equal(f"Q-Former {key}", config["bert_full"][key], value)
        own = model.language.model
        checks.holds("output matrix is its own", condition=own.lm_head.weight is not own.shared.weight)

    return _guarded(Checks("config"), run)


def _check_position_embeddings(directory: GoldenDirectory) -> Checks:
    checks = Checks("pos_embed", tolerance=directory.precision.case)
    names = [name for name in directory.tensors if name.startswith("pos_embed/") and name.endswith("/in")]
    for name in names:
        wanted = directory.tensors[name.removesuffix("in") + "out"]
        grid = int((wanted.shape[1] - 1) ** 0.5)
        ours = interpolate_position_embedding(directory.tensors[name].double(), grid)
        checks.close(name.removesuffix("/in"), ours, wanted)
    return checks


def _check_task(directory: GoldenDirectory, content: dict[str, Any]) -> Checks:
    checks = Checks(f"task {content['task']}")
    try:
        check_task(directory, content, checks)
    except UserError as error:
        # Such strings mean nothing clear: the published code runs into errors of its own with them.
        checks.holds("refused", condition=str(error).startswith("unknown task"), note=str(error))
    return checks


def _check_all_tensors_known(directory: GoldenDirectory, names: set[str]) -> Checks:
    checks = Checks("tensors")
    unknown = [key for key in directory.tensors if key.partition("/")[0] not in names]
    checks.equal("tensors of no case", unknown, [])
    return checks


def _guarded(checks: Checks, run: Callable[[Checks], None]) -> Checks:
    """Run comparisons; what keeps a case from running is a failure of that case, not of the whole."""
    try:
        run(checks)
    except (UserError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError) and "state_dict" in str(error):
            raise
        checks.fail("could not be run", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return checks
