"""A moving average of the weights that train."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from lavis.runners.parallel import like


class MovingAverage:
    """Follows parameters exponentially.

    Args:
        decay: share that is kept at each step.
    """

    def __init__(self, parameters: Iterable[tuple[str, nn.Parameter]], *, decay: float) -> None:
        self._parameters = dict(parameters)
        self._decay = decay
        self._mean = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights."""
        for name, parameter in self._parameters.items():
            self._mean[name].lerp_(parameter, 1 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the average as its weights while the block runs."""
        trained = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._put(self._mean)
        try:
            yield
        finally:
            self._put(trained)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the average by parameter name, laid out as the parameters are."""
        return dict(self._mean)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up what `state_dict` returned."""
        for name, value in self._mean.items():
            value.copy_(like(state[name], value))

    @torch.no_grad()
    def _put(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])
