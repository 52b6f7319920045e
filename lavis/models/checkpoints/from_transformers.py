"""What goes wrong when transformers loads a model of a stranger, in one line, and nothing on the screen meanwhile."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lavis.common.errors import CheckpointError, ConfigError, MissingExtraError, first_line


@contextmanager
def explained_loading(source: str, *, way_to_its_code: str) -> Iterator[None]:
    """Turn what transformers raises for a model that cannot be loaded into one line.

    Args:
        source: name on the hub, or folder.
        way_to_its_code: the way out for a model that brings code of its own.

    Raises:
        CheckpointError: anything but a mistake that has been explained already.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        yield
    except (CheckpointError, ConfigError, MissingExtraError):
        raise
    except ImportError as error:
        raise CheckpointError(f"{source} cannot be loaded: {first_line(error)}") from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (
        *(OSError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError),
        *(SafetensorError, StrictDataclassError),
    ) as error:
        reason = first_line(error.__cause__ if isinstance(error, StrictDataclassError) and error.__cause__ else error)
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other sizes than its config.json says"
        there = Path(source).exists()
        way_out = (
            "its files are damaged, or of another model"
            if there
            else ("check its name and the network, or give a folder")
        )
        if "trust_remote_code" in str(error):
            way_out = f"it brings code of its own, which {way_to_its_code}"
        raise CheckpointError(f"{source} cannot be loaded: {reason}; {way_out}") from error


@contextmanager
def quiet_unless_watched() -> Iterator[None]:
    """Show bars of progress only where somebody looks at a terminal."""
    from transformers.utils import logging

    if sys.stderr.isatty() or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
