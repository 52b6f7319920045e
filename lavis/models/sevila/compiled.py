"""torch.compile for inference, given only shapes that come back.

A compiler makes code for the shapes it sees. Numbers of frames and lengths of texts differ from call to call, so they
are rounded up: rows to a power of two, texts to a multiple of 32 tokens, and what was added is cut off again. The
compiler then meets a handful of shapes over a whole run, however many questions are asked.

Shapes: N rows, L tokens, E language width.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.compiler.config
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutput

LENGTH_STEP = 32
# Torch keeps code for 8 shapes of a function, and runs it uncompiled for others. The encoder meets 7 numbers of rows (1
# to 64) times its lengths, and the two Q-Formers are one function to torch.
_MOST_SHAPES = 64


def _compiled(run: Callable[..., Any], backend: str) -> Callable[..., Any]:
    made = torch.compile(run, backend=backend, dynamic=False)

    def run_compiled(*args: torch.Tensor, **kwargs: torch.Tensor) -> Any:
        with torch.compiler.config.patch(recompile_limit=_MOST_SHAPES):  # type: ignore[attr-defined]
            return made(*args, **kwargs)

    return run_compiled


def rounded_rows(count: int) -> int:
    """Return the next power of two."""
    return 1 << (count - 1).bit_length()


def rounded_length(length: int) -> int:
    """Return the next multiple of `LENGTH_STEP`."""
    return -(-length // LENGTH_STEP) * LENGTH_STEP


def compiled_rows(run: Callable[[torch.Tensor], torch.Tensor], *, backend: str) -> Callable[..., torch.Tensor]:
    """Compile a function of rows [N, ...], and run it on a rounded number of them."""
    made = _compiled(run, backend)
    return lambda rows: made(_more_rows(rows, value=0))[: len(rows)]


def compiled_encoder(run: Callable[..., Any], *, backend: str) -> Callable[..., BaseModelOutput]:
    """Compile an encoder of [N, L, E], and run it on rounded numbers of rows and tokens."""
    made = _compiled(run, backend)

    def encode(*, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor) -> BaseModelOutput:
        rows, length = attention_mask.shape
        more = rounded_length(length) - length
        embeds = _more_rows(pad(inputs_embeds, (0, 0, 0, more)), value=0)
        # Added rows attend to themselves: a row without anything to attend to would be no number.
        mask = _more_rows(pad(attention_mask, (0, more)), value=1)
        encoded = made(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        return BaseModelOutput(last_hidden_state=encoded[:rows, :length])

    return encode


def _more_rows(rows: torch.Tensor, *, value: float) -> torch.Tensor:
    """Append rows of a value, up to the rounded number."""
    added = rows.new_full((rounded_rows(len(rows)) - len(rows), *rows.shape[1:]), value)
    return torch.cat([rows, added])
