"""Comparisons, and the list of them that a verification prints."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

# Absolute, on logits, losses and intermediate tensors in fp32.
TOLERANCE = 1e-4
# bf16 keeps 8 bits, and random weights amplify its rounding: such figures are indicative. What is
# compared is the size of the difference over the size of the figure (root mean squares).
BF16_RELATIVE_TOLERANCE = 0.25


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


class Checks:
    """Collects comparisons under the name of a case."""

    def __init__(self, case: str, *, tolerance: float = TOLERANCE) -> None:
        self.case = case
        self.tolerance = tolerance
        self.results: list[Check] = []

    def close(self, quantity: str, ours: Any, golden: Any) -> None:
        """Compare numbers: tensors or nested lists of the same shape."""
        a, b = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (ours, golden))
        if a.shape != b.shape:
            self.fail(quantity, f"shape {list(a.shape)} instead of {list(b.shape)}")
            return
        error = float((a - b).abs().max()) if a.numel() else 0.0
        self.results.append(Check(self.case, quantity, error, self.tolerance))

    def loose(self, quantity: str, ours: Any, golden: Any) -> None:
        """Compare bf16 figures: the norm of the difference over the norm of the figure."""
        a, b = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (ours, golden))
        if a.shape != b.shape:
            self.fail(quantity, f"shape {list(a.shape)} instead of {list(b.shape)}")
            return
        error = float((a - b).norm() / b.norm())
        self.results.append(Check(self.case, quantity, error, BF16_RELATIVE_TOLERANCE, "relative"))

    def within(self, quantity: str, ours: float, golden: float, *, allowed: float, note: str) -> None:
        """Compare two numbers that can only be bounded, saying why."""
        self.results.append(Check(self.case, quantity, abs(ours - golden), allowed, note))

    def relative(self, quantity: str, ours: Iterable[float], golden: Iterable[float]) -> None:
        """Compare numbers that grow with their tensor (norms, sums): absolute up to 1, relative beyond."""
        a, b = torch.tensor(list(ours), dtype=torch.float64), torch.tensor(list(golden), dtype=torch.float64)
        error = float(((a - b).abs() / b.abs().clamp(min=1)).max()) if a.numel() else 0.0
        self.results.append(Check(self.case, quantity, error, self.tolerance))

    def equal(self, quantity: str, ours: Any, golden: Any) -> None:
        """Compare discrete values: lists (of lists) of numbers or texts, or single ones."""
        a, b = _flat(ours), _flat(golden)
        if len(a) != len(b):
            self.fail(quantity, f"{len(a)} entries instead of {len(b)}")
            return
        different = [index for index, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        note = f"{a[different[0]]!r} instead of {b[different[0]]!r}" if different else ""
        self.results.append(Check(self.case, quantity, float(len(different)), 0.0, note))

    def holds(self, quantity: str, *, condition: bool, note: str = "") -> None:
        """Record a statement that is true or not."""
        self.results.append(Check(self.case, quantity, 0.0 if condition else 1.0, 0.0, "" if condition else note))

    def fail(self, quantity: str, note: str) -> None:
        """Record that something could not be compared."""
        self.results.append(Check(self.case, quantity, float("inf"), self.tolerance, note))


def _flat(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [item for part in value for item in _flat(part)]
    return [value]
