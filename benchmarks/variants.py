"""What can be measured, by the names of the command line: sizes, precisions, and variants of loading and asking."""

from dataclasses import dataclass

SIZES = {"tiny": "tiny", "base": "base", "xl": "flant5xl", "xxl": "flant5xxl"}
DTYPES = ("fp32", "bf16", "fp16")
EXHAUSTIVE = "localizer"


@dataclass(frozen=True)
class Variant:
    """How a model is loaded and asked; fp32 with nothing else by default.

    Attributes:
        dtype: precision, a name of `DTYPES`.
        selector: which frames are read, see `lavis.models.chain.SelectorSpec`.
        quantize: "int8" or "int4" weights, or None.
        compiled: run through torch.compile.
    """

    dtype: str = "fp32"
    selector: str = EXHAUSTIVE
    quantize: str | None = None
    compiled: bool = False

    @property
    def name(self) -> str:
        """The precision, and after it what is not the default."""
        selector = None if self.selector == EXHAUSTIVE else self.selector
        compiled = "compile" if self.compiled else None
        return "+".join(filter(None, (self.dtype, self.quantize, selector, compiled)))


PLAIN = Variant()
VARIANTS = {
    variant.name: variant
    for variant in (
        PLAIN,
        Variant("fp32", selector="coarse_to_fine"),
        Variant("fp32", quantize="int8"),
        Variant("fp32", compiled=True),
        Variant("bf16"),
        Variant("bf16", selector="coarse_to_fine"),
        Variant("bf16", selector="coarse_to_fine", compiled=True),
        Variant("bf16", quantize="int8"),
        Variant("bf16", quantize="int4"),
        Variant("bf16", compiled=True),
        Variant("fp16"),
        Variant("fp16", selector="coarse_to_fine"),
        Variant("fp16", compiled=True),
    )
}
