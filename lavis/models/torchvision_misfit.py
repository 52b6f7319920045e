"""Explaining a torchvision that does not fit the installed torch.

We never import torchvision, but transformers and timm do where they find it, and one that was built
for another torch makes both fail at import.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lavis.common.errors import UserError


@contextmanager
def explained_misfit() -> Iterator[None]:
    """Let imports inside the block fail with one line where torchvision is the reason.

    Raises:
        UserError: torchvision does not fit.
    """
    try:
        yield
    except (ImportError, RuntimeError, AttributeError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).splitlines()[0] if str(cause) else ""
        if "torchvision" not in reason or reason == "No module named 'torchvision'":
            raise
        raise UserError(
            f"the installed torchvision does not fit torch {torch.__version__} ({reason}); "
            "install the torchvision made for it, or uninstall torchvision"
        ) from error
