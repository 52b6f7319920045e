"""Ways to load and ask a model, by the names that tables and the command line give them."""

from dataclasses import dataclass

EXHAUSTIVE = "localizer"


@dataclass(frozen=True)
class Way:
    """How a model is loaded and asked; the plain way by default.

    Attributes:
        dtype: precision, a name of `options.DTYPES`.
        selector: which frames are read, a name in `registry.selectors`.
        quantize: "int8" or "int4" weights, or None.
        compiled: run through torch.compile.
    """

    dtype: str = "fp32"
    selector: str = EXHAUSTIVE
    quantize: str | None = None
    compiled: bool = False

    @property
    def name(self) -> str:
        """What is not as in the plain way, after the precision."""
        selector = None if self.selector == EXHAUSTIVE else self.selector
        compiled = "compile" if self.compiled else None
        return "+".join(filter(None, (self.dtype, self.quantize, selector, compiled)))


PLAIN = Way()
WAYS = {
    way.name: way
    for way in (
        PLAIN,
        Way("fp32", selector="coarse_to_fine"),
        Way("fp32", quantize="int8"),
        Way("fp32", compiled=True),
        Way("bf16"),
        Way("bf16", selector="coarse_to_fine"),
        Way("bf16", selector="coarse_to_fine", compiled=True),
        Way("bf16", quantize="int8"),
        Way("bf16", quantize="int4"),
        Way("bf16", compiled=True),
        Way("fp16"),
        Way("fp16", selector="coarse_to_fine"),
        Way("fp16", compiled=True),
    )
}
