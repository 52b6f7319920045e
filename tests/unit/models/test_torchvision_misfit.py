import pytest
import torch

from lavis.common.errors import UserError
from lavis.models.torchvision_misfit import explained_misfit


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
