"""Comparisons, and the list of them that a verification prints.

Ours are computed in float64, and numbers are compared relative to the scale of their quantity: its largest value, or
what its entries are made from (logits for a margin, gradients for their sum). What is allowed follows from the
precision that golden figures were measured in, not from the processor that ours are computed on.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch


@dataclass(frozen=True)
class Precision:
    """What figures measured in one precision allow, relative to the scale of a quantity.

    Attributes:
        case: of figures that one pass through the model gives.
        loop: of figures that follow optimizer steps.
        is_exact: whether nothing else is allowed; if not, the effect of a small disturbance is.
    """

    case: float
    loop: float
    is_exact: bool


# Two float64 implementations differ by some 1e-13, and by 1e-10 where AdamW has scaled rounding up.
FLOAT64 = Precision(case=1e-10, loop=1e-8, is_exact=True)
# About a hundred times the rounding of one operation; what the model and the optimizer make of rounding is added.
FLOAT32 = Precision(case=1e-5, loop=1e-5, is_exact=False)
# Figures measured in fp32 are as far from exact ones as rounding carries them. How far that is depends on sizes and
# weights, and after some optimizer steps it is orders of magnitude more. So it is measured: weights are disturbed by
# twice fp32's rounding (and gradients before optimizer steps), in float64 and always in the same way, and this many
# times what that changes is allowed.
DISTURBANCE = 2.0**-22
_DISTURBANCES_ALLOWED = 8
# bf16 keeps 8 bits, and random weights amplify its rounding: such figures are indicative. What is
# compared is the size of the difference over the size of the figure (root mean squares).
BF16_RELATIVE_TOLERANCE = 0.25
# Beside a bf16 language model the vision tower computes in fp32, here and there.
BF16_VISION_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Check:
    """One quantity of one case.

    Attributes:
        error: largest absolute difference; for discrete quantities the number of entries that differ.
        passed: whether it is within what is allowed.
        note: what was found, where a number does not say it.
    """

    case: str
    quantity: str
    error: float
    allowed: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within what is allowed; an error that is not a number is not."""
        return self.error <= self.allowed


class Stage(NamedTuple):
    """Figures that rounding carries equally far: those of one kind, up to a number of optimizer steps or epochs."""

    kind: str = ""
    steps: int = 0


class _Comparison(NamedTuple):
    check: Check
    scale: float
    stage: Stage


class Checks:
    """Collects comparisons under the name of a case.

    Args:
        tolerance: what is allowed, relative to the scale of each quantity.
        disturbed: our numbers of a disturbed model, by quantity; what differs there is allowed too.
    """

    def __init__(
        self,
        case: str,
        *,
        tolerance: float = FLOAT64.case,
        disturbed: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.case = case
        self.tolerance = tolerance
        self.numbers: dict[str, torch.Tensor] = {}
        self._disturbed = disturbed or {}
        self._comparisons: list[_Comparison] = []
        self._moved: dict[Stage, float] = {}

    @property
    def results(self) -> list[Check]:
        """All comparisons, in order."""
        return [self._with_rounding(comparison) for comparison in self._comparisons]

    def close(
        self,
        quantity: str,
        ours: Any,
        golden: Any,
        *,
        scale: Any = None,
        stage: Stage = Stage(),  # noqa: B008  # immutable
        extra: float = 0.0,
        note: str = "",
    ) -> None:
        """Compare numbers: tensors or nested lists of the same shape.

        Args:
            scale: numbers whose largest gives the scale, where those of `golden` do not: a margin is the small
                difference of large logits.
            stage: what the effect of a disturbance is compared with.
            extra: what is allowed beyond that, for the reason that `note` gives.
        """
        a, b = _numbers(ours), _numbers(golden)
        if a.shape != b.shape:
            self.fail(quantity, f"shape {list(a.shape)} instead of {list(b.shape)}")
            return
        size = _largest(b if scale is None else _numbers(scale))
        if not math.isfinite(size):
            self.fail(quantity, "the figure is not a finite number")
            return
        self.numbers[quantity] = a
        moved = self._disturbed.get(quantity)
        if moved is not None and moved.shape == a.shape and size:
            self._moved[stage] = max(self._moved.get(stage, 0.0), _largest(a - moved) / size)
        check = Check(self.case, quantity, _largest(a - b), self.tolerance * size + extra, note)
        self._comparisons.append(_Comparison(check, size, stage))

    def _with_rounding(self, comparison: _Comparison) -> Check:
        kind, steps = comparison.stage
        moved = max((v for stage, v in self._moved.items() if stage.kind == kind and stage.steps <= steps), default=0.0)
        extra = _DISTURBANCES_ALLOWED * moved * comparison.scale
        return dataclasses.replace(comparison.check, allowed=comparison.check.allowed + extra)

    def _add(self, quantity: str, error: float, allowed: float, note: str = "") -> None:
        self._comparisons.append(_Comparison(Check(self.case, quantity, error, allowed, note), 0.0, Stage()))

    def loose(self, quantity: str, ours: Any, golden: Any) -> None:
        """Compare bf16 figures: the norm of the difference over the norm of the figure."""
        a, b = _numbers(ours), _numbers(golden)
        if a.shape != b.shape:
            self.fail(quantity, f"shape {list(a.shape)} instead of {list(b.shape)}")
            return
        error = float((a - b).norm() / b.norm())
        self._add(quantity, error, BF16_RELATIVE_TOLERANCE, "relative")

    def equal(self, quantity: str, ours: Any, golden: Any) -> None:
        """Compare discrete values: lists (of lists) of numbers or texts, or single ones."""
        a, b = _flat(ours), _flat(golden)
        if len(a) != len(b):
            self.fail(quantity, f"{len(a)} entries instead of {len(b)}")
            return
        different = [index for index, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        note = f"{a[different[0]]!r} instead of {b[different[0]]!r}" if different else ""
        self._add(quantity, float(len(different)), 0.0, note)

    def holds(self, quantity: str, *, condition: bool, note: str = "") -> None:
        """Record a statement that is true or not."""
        self._add(quantity, 0.0 if condition else 1.0, 0.0, "" if condition else note)

    def fail(self, quantity: str, note: str) -> None:
        """Record that something could not be compared."""
        self._add(quantity, math.inf, self.tolerance, note)


def margin(values: torch.Tensor, rank: int = 1) -> torch.Tensor:
    """Return the smallest distance, over rows [N, M], from the value of a rank to the next lower one."""
    ranked = values.double().sort(dim=1, descending=True).values
    return (ranked[:, rank - 1] - ranked[:, rank]).min()


def _numbers(values: Any) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64).detach()


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _flat(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [item for part in value for item in _flat(part)]
    return [value]
