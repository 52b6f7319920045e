"""Training on several datasets at once: one after the other, or mixed by ratio.

Without ratios an epoch holds every sample of every dataset once. With ratios an epoch is as long, and
each dataset gets its share of it, rounded to whole samples; a dataset whose share is larger than itself
repeats samples, another one shows the rest of its samples in the epochs that follow. No sample of a
dataset comes again before all its others came.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lavis.common.errors import ConfigError, did_you_mean
from lavis.common.types import Integers
from lavis.datasets.builder import DatasetBuilder
from lavis.datasets.dataset import QuestionDataset, Sample, SampleKey, Unreadable


class JoinedDataset(Dataset[Sample | Unreadable]):
    """Datasets one after the other.

    Args:
        counts: samples of each dataset in an epoch; None is all it has.
    """

    def __init__(self, parts: Sequence[QuestionDataset], *, counts: Sequence[int] | None = None) -> None:
        self._parts, self._counts = parts, counts or [len(part) for part in parts]
        self._ends = np.cumsum(self._counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        part, place = self._located(key.index)
        return self._parts[part][SampleKey(key.epoch, place)]

    def _located(self, index: int) -> tuple[int, int]:
        """Return which dataset an index falls to, and its place there."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        return part, index - int(self._ends[part]) + self._counts[part]


class MixedDataset(JoinedDataset):
    """Datasets mixed by ratio; an index counts within the epoch, the samples of one dataset side by side.

    Args:
        counts: samples of each dataset in every epoch.
        seed: decides the order in which the samples of a dataset have their turn.
    """

    def __init__(self, parts: Sequence[QuestionDataset], *, counts: Sequence[int], seed: int = 0) -> None:
        super().__init__(parts, counts=counts)
        self._seed = seed

    def __getitem__(self, key: SampleKey) -> Sample | Unreadable:
        part, place = self._located(key.index)
        dataset = self._parts[part]
        turn, position = divmod(key.epoch * self._counts[part] + place, len(dataset))
        index = int(_order(self._seed, part, turn, len(dataset))[position])
        # The turn takes the epoch's place: a sample that comes twice in an epoch gets other frames and another crop.
        return dataset[SampleKey(turn, index)]


def mixed_counts(sizes: Sequence[int], ratios: Sequence[float]) -> list[int]:
    """Share out as many samples as all datasets have together; the largest remainders are rounded up.

    Example:
        >>> mixed_counts([10, 5], [1, 1])
        [8, 7]
    """
    total, weight = sum(sizes), math.fsum(ratios)
    exact = [total * ratio / weight for ratio in ratios]
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda part: counts[part] - exact[part])
    for part in by_remainder[: total - sum(counts)]:
        counts[part] += 1
    return counts


def checked_mix(mix: Any, names: Sequence[str]) -> dict[str, float] | None:
    """Read `run.mix`: nothing, or a ratio for every dataset.

    Raises:
        ConfigError: it is something else, or a ratio is missing, unknown or not above zero.
    """
    if mix is None:
        return None
    if not isinstance(mix, Mapping):
        raise ConfigError(f"run.mix is {mix!r}; give a ratio for each dataset, such as {{nextqa: 2, star: 1}}")
    for name, ratio in mix.items():
        if name not in names:
            raise ConfigError(f"run.mix: no dataset {name!r} in datasets; {did_you_mean(str(name), names)}")
        is_number = isinstance(ratio, (int, float)) and not isinstance(ratio, bool)
        if not is_number or not (ratio > 0 and math.isfinite(ratio)):
            raise ConfigError(f"run.mix.{name} is {ratio!r}; it must be a number above 0")
    missing = [name for name in names if name not in mix]
    if missing:
        raise ConfigError(f"run.mix has no ratio for {', '.join(missing)}; give one for each of: {', '.join(names)}")
    return {name: float(mix[name]) for name in names}


class MixedBuilder:
    """Builds several datasets as one.

    Args:
        builders: by dataset name.
        mix: a ratio for each dataset; None trains on one after the other, in random order.
        seed: of the mixture.
    """

    def __init__(
        self, builders: Mapping[str, DatasetBuilder], *, mix: Mapping[str, float] | None = None, seed: int = 0
    ) -> None:
        self._builders, self._mix, self._seed = builders, mix, seed

    def build_training(self, split: str) -> JoinedDataset:
        """Build a split of all datasets for training.

        Raises:
            ConfigError: a ratio is so small that its dataset would never be seen.
        """
        parts = [builder.build_training(split) for builder in self._builders.values()]
        if self._mix is None:
            return JoinedDataset(parts)
        ratios = [self._mix[name] for name in self._builders]
        counts = mixed_counts([len(part) for part in parts], ratios)
        for name, count in zip(self._builders, counts, strict=True):
            if not count:
                raise ConfigError(f"run.mix.{name} is {self._mix[name]:g}: less than one sample an epoch; raise it")
        return MixedDataset(parts, counts=counts, seed=self._seed)

    def build_evaluation(self, split: str) -> JoinedDataset:
        """Build a split of all datasets that have it, every sample once.

        Raises:
            ConfigError: none of them has it.
        """
        having = [builder for builder in self._builders.values() if builder.has_split(split)]
        if not having:
            raise ConfigError(f"none of the datasets {', '.join(self._builders)} has a split {split!r}")
        return JoinedDataset([builder.build_evaluation(split) for builder in having])

    def has_split(self, split: str) -> bool:
        """Say whether a dataset has this split."""
        return any(builder.has_split(split) for builder in self._builders.values())


@lru_cache(maxsize=16)
def _order(seed: int, part: int, turn: int, size: int) -> Integers:
    return np.random.default_rng([seed, part, turn]).permutation(size)
