"""What this machine offers: devices, compilers, and a torchvision that fits the installed torch or does not."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lavis.common.errors import ConfigError, UserError, first_line

_DEVICE_TYPES = ("cpu", "cuda", "mps")
# With 2.6, torch.compile fails on transformers' own code; versions between were not tried.
_COMPILING_TORCH = (2, 10)
# What torch's compilers run where the environment names nothing else.
_CXX = {"darwin": "clang++", "win32": "cl"}


def usable_device(name: str | torch.device) -> torch.device:
    """Return a device by name ("cpu", "cuda:1"); a ConfigError says that it does not work on this machine."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in _DEVICE_TYPES:
        raise ConfigError(f"unknown device {str(name)!r}; give cpu, cuda, cuda:N or mps")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"cannot use the device {str(name)!r} on this machine ({first_line(error)})") from error
    return device


def check_compiler(device: torch.device) -> None:
    """Make sure that code can be made for this device, before time is spent on loading a model.

    torch.compile writes C++ for a CPU; for a GPU its kernels are called through a few lines of C.

    Raises:
        ConfigError: the compiler that this takes is not there, or torch is too old.
    """
    version = torch.__version__.split("+")[0]
    if tuple(map(int, version.split(".")[:2])) < _COMPILING_TORCH:
        least = ".".join(map(str, _COMPILING_TORCH))
        raise ConfigError(
            f"compiling a model needs torch {least} or newer, not {version}; update it, or do not compile"
        )
    if device.type == "cpu":
        language, variable, usual = "C++", "CXX", [_CXX.get(sys.platform, "g++")]
    elif device.type == "cuda":
        language, variable, usual = "C", "CC", ["gcc", "clang"]
    else:
        return
    candidates = [os.environ[variable]] if variable in os.environ else usual
    if not any(map(shutil.which, candidates)):
        raise ConfigError(
            f"compiling a model for {device.type} needs a {language} compiler, and there is no "
            f"{' or '.join(candidates)} on the PATH; install one, name another in {variable}, or do not compile"
        )


@contextmanager
def explained_misfit() -> Iterator[None]:
    """Let imports inside the block fail with one line where torchvision is the reason.

    We never import torchvision, but transformers and timm do where they find it, and one that was built
    for another torch makes both fail at import.

    Raises:
        UserError: torchvision does not fit.
    """
    try:
        yield
    except (ImportError, RuntimeError, AttributeError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = first_line(cause)
        if "torchvision" not in reason or reason == "No module named 'torchvision'":
            raise
        raise UserError(
            f"the installed torchvision does not fit torch {torch.__version__} ({reason}); "
            "install the torchvision made for it, or uninstall torchvision"
        ) from error
