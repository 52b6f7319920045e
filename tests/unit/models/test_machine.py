"""What a machine lacks is told in one line before a model is loaded: a compiler, or a torchvision that fits torch."""

from pathlib import Path

import pytest
import torch

import lavis
from lavis.common.errors import CheckpointError, ConfigError, UserError
from lavis.models.machine import check_compiler, explained_misfit


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, empty at first."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    for variable in ("CXX", "CC"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def install(folder: Path, name: str) -> None:
    (folder / name).touch(mode=0o755)


@pytest.mark.parametrize(
    ("device", "says"), [("cpu", r"a C\+\+ compiler.* no g\+\+ on"), ("cuda", "a C .* gcc or clang")]
)
def test_what_is_missing_is_named_with_the_ways_out(device: str, says: str, programs: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^compiling a model for {device} needs {says}[^\n]*do not compile$"):
        check_compiler(torch.device(device))


def test_it_is_missed_before_a_model_is_looked_for(programs: Path) -> None:
    with pytest.raises(ConfigError, match=r"no g\+\+ on the PATH"):
        lavis.load_model("sevila", "no such folder", device="cpu", compiled=True)
    install(programs, "g++")
    with pytest.raises(CheckpointError, match="no such folder"):
        lavis.load_model("sevila", "no such folder", device="cpu", compiled=True)


def test_the_compiler_that_the_environment_names_is_the_one_that_is_used(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(programs, "g++")
    monkeypatch.setenv("CXX", "g++-99")
    with pytest.raises(ConfigError, match=r"there is no g\+\+-99 on the PATH; .* name another in CXX"):
        check_compiler(torch.device("cpu"))
    install(programs, "g++-99")
    check_compiler(torch.device("cpu"))


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_either_compiler_of_c_does_for_a_gpu(name: str, programs: Path) -> None:
    install(programs, name)
    check_compiler(torch.device("cuda"))


def test_a_torch_that_cannot_compile_these_models_is_named(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(programs, "g++")
    monkeypatch.setattr(torch, "__version__", "2.6.0+cpu")
    with pytest.raises(ConfigError, match=r"^compiling a model needs torch 2\.10 or newer, not 2\.6\.0; "):
        check_compiler(torch.device("cpu"))


def test_a_misfit_deep_in_the_chain_of_causes_is_told_in_one_line() -> None:
    error = ModuleNotFoundError("Could not import module 'T5ForConditionalGeneration'.")
    error.__cause__ = RuntimeError("operator torchvision::nms does not exist\nmore")
    with pytest.raises(UserError) as caught, explained_misfit():
        raise error
    assert str(caught.value) == (
        f"the installed torchvision does not fit torch {torch.__version__} (operator torchvision::nms does not exist); "
        "install the torchvision made for it, or uninstall torchvision"
    )


@pytest.mark.parametrize(
    "error",
    [
        ImportError("No module named 'yaml'"),
        RuntimeError("out of memory"),
        ImportError("No module named 'torchvision'"),
    ],
)
def test_other_failures_are_left_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, explained_misfit():
        raise error
    assert caught.value is error
