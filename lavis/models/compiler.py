"""Whether models can be compiled on this machine."""

import os
import shutil
import sys

import torch

from lavis.common.errors import ConfigError

# What torch's compilers run where the environment names nothing else.
_CXX = {"darwin": "clang++", "win32": "cl"}


def check_compiler(device: torch.device) -> None:
    """Make sure that code can be made for this device, before time is spent on loading a model.

    torch.compile writes C++ for a CPU; for a GPU its kernels are called through a few lines of C.

    Raises:
        ConfigError: the compiler that this takes is not there.
    """
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
