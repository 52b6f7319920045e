"""The readers to test: those of optional packages where these are installed."""

import importlib

import pytest

from lavis.common.errors import UserError


def _missing(module: str) -> bool:
    try:
        importlib.import_module(f"lavis.video.{module}")
    except UserError:
        return True
    return False


needs_decord = pytest.mark.skipif(_missing("decord"), reason="the extra 'decord' is not installed")
needs_torchcodec = pytest.mark.skipif(
    _missing("torchcodec"), reason="the extra 'torchcodec' or the system's FFmpeg is not installed"
)
FILE_READERS = [
    "pyav",
    pytest.param("decord", marks=needs_decord),
    pytest.param("torchcodec", marks=needs_torchcodec),
]
