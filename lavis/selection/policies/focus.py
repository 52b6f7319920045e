"""FOCUS: frames by upper confidence bounds (Zhu et al., ICLR 2026, arXiv 2510.27280)."""

import math
from dataclasses import dataclass

import numpy as np

from lavis.common.errors import ConfigError
from lavis.common.types import Floats, Integers, Question
from lavis.selection.policies.plain import Search, Searching, completed, random_for, scale_of


@dataclass(frozen=True)
class _Arm:
    """A part of the video, from one position to another, and which of its frames count for it."""

    start: int
    end: int
    samples: list[int]

    @property
    def centre(self) -> int:
        return (self.start + self.end - 1) // 2


class FOCUS(Searching):
    """Scores a few frames of each part of the video, looks closer where the scores may be high, and chooses there.

    Parts ("arms") last `arm_s` seconds, and there are `min_arms` at least. Of each, the frame in the centre and
    `extra` random ones are scored. With n of N samples of mean m and variance v, a part may reach
    m + sqrt(2 ln N v / n) + 3 ln N / n. The best share `zoom` of the parts, `min_zoom` at least, are looked at every
    `fine_s` seconds: half evenly, half at random. The share `top` of K are the best frames scored; the rest come from
    as many parts as were looked at (`final_min` to `final_max`), equally many from each, drawn by the softmax at
    `temperature` of scores that are interpolated from the nearest sample and scaled to 0..1. They keep away from those
    chosen before by `gap_ratio` of the mean distance of K frames, `max_gap_s` at most, where that distance is above
    `no_gap_below_s`.

    The bounds are made for scores from 0 to 1. By default, scores of which the first ones lie outside are scaled by
    the lowest and highest of these.

    Args:
        seed: of the random frames; the published code draws for one question after the other.
        published: as in the published code, samples of the closer look do not count for the parts (by default they
            do), interpolated scores are cut off at 0 and 1, and frames at the end that make no whole part are left
            out. It may choose fewer than K frames.

    Raises:
        ConfigError: a duration, share or number that cannot be.
    """

    def __init__(
        self,
        *,
        arm_s: float = 16.0,
        fine_s: float = 1.0,
        min_arms: int = 8,
        extra: int = 2,
        zoom: float = 0.25,
        min_zoom: int = 4,
        top: float = 0.2,
        final_min: int = 4,
        final_max: int = 32,
        temperature: float = 0.06,
        gap_ratio: float = 0.25,
        max_gap_s: float = 1.0,
        no_gap_below_s: float = 0.2,
        seed: int = 42,
        published: bool = False,
    ) -> None:
        above_0 = {"arm_s": arm_s, "fine_s": fine_s, "min_arms": min_arms, "temperature": temperature}
        for name, value in {**above_0, "min_zoom": min_zoom, "final_min": final_min, "final_max": final_max}.items():
            if not value > 0:
                raise ConfigError(f"{name} is {value}; give a number above 0")
        for name, value in {"zoom": zoom, "top": top}.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; give a share from 0 to 1")
        for name, value in {"extra": extra, "gap_ratio": gap_ratio, "max_gap_s": max_gap_s}.items():
            if not value >= 0:
                raise ConfigError(f"{name} is {value}; give 0 or more")
        self._arm_s, self._fine_s, self._min_arms, self._extra = arm_s, fine_s, min_arms, extra
        self._zoom, self._min_zoom, self._top = zoom, min_zoom, top
        self._final_min, self._final_max, self._temperature = final_min, final_max, temperature
        self._gap_ratio, self._max_gap_s, self._no_gap_below_s = gap_ratio, max_gap_s, no_gap_below_s
        self._seed, self._published = seed, published

    def _search(self, times_s: Floats, question: Question, k: int) -> Search:
        count, rng = len(times_s), random_for(question, self._seed)
        scores = np.full(count, np.nan)
        rate = _rate(times_s)
        number = max(self._min_arms, math.ceil(count / rate / self._arm_s))
        arms = self._arms(count, number)
        for arm in arms:
            others = [position for position in range(arm.start, arm.end) if position != arm.centre]
            arm.samples.append(arm.centre)
            if others:
                arm.samples.extend(rng.choice(others, size=min(self._extra, len(others)), replace=False).tolist())
        coarse = np.array([position for arm in arms for position in arm.samples])
        found = yield coarse
        scale = scale_of(found) if not self._published else lambda values: values
        scores[coarse] = scale(found)

        order = np.argsort(-self._bounds(arms, scores), kind="stable")
        looked_at = order[: max(self._min_zoom, math.ceil(len(arms) * self._zoom))]
        stride = min(max(1, round(self._fine_s * rate)), max(1, count // number))
        half = max(1, round(count / number / 2))
        windows = [range(max(0, arms[one].centre - half), min(count, arms[one].centre + half + 1)) for one in looked_at]
        fine = self._closer(windows, stride, set(coarse.tolist()), rng)
        if len(fine):
            found = yield fine
            scores[fine] = scale(found)
            if not self._published:
                for arm in arms:
                    arm.samples.extend(fine[(fine >= arm.start) & (fine < arm.end)].tolist())
        chosen = self._final(arms, scores, count / rate / k, rate, k, rng)
        if self._published:
            return np.unique(chosen)
        return completed(chosen, _nearest(scores), k)

    def _arms(self, count: int, number: int) -> list[_Arm]:
        """Cut the video into parts of the same number of frames; the last one takes what is left over."""
        number = max(1, count // max(1, count // number))
        size = count // number
        arms = [_Arm(start, start + size, []) for start in range(0, number * size, size)]
        if not self._published:
            arms[-1] = _Arm(arms[-1].start, count, [])
        return arms

    def _bounds(self, arms: list[_Arm], scores: Floats) -> Floats:
        """Return how high the mean score of each part may be."""
        log_total = math.log(sum(len(arm.samples) for arm in arms))
        bounds = []
        for arm in arms:
            values, number = scores[arm.samples], len(arm.samples)
            spread = max(float(values.var()), 1e-6)
            bounds.append(values.mean() + math.sqrt(2 * log_total * spread / number) + 3 * log_total / number)
        return np.array(bounds)

    def _closer(self, windows: list[range], stride: int, known: set[int], rng: np.random.Generator) -> Integers:
        """Return which frames of windows to score next, none twice: one in `stride`, half of them at random."""
        chosen: set[int] = set()
        for window in windows:
            wanted = max(1, len(window) // stride)
            evenly = round(wanted / 2)
            places = [int(place * len(window) / evenly + len(window) / evenly / 2) for place in range(evenly)]
            if len(window) <= evenly:
                places = [(len(window) - 1) // 2]
            chosen |= {window[place] for place in places} - known
            rest = [position for position in window if position not in known | chosen]
            number = min(wanted - evenly, len(rest))
            if number:
                chosen.update(rng.choice(rest, size=number, replace=False).tolist())
        return np.array(sorted(chosen), dtype=np.int64)

    def _final(
        self, arms: list[_Arm], scores: Floats, distance_s: float, rate: float, k: int, rng: np.random.Generator
    ) -> list[int]:
        """Return K frames or fewer: the best ones scored, and draws from the parts that may be best."""
        scored = np.flatnonzero(np.isfinite(scores))
        best_first = scored[np.argsort(-scores[scored], kind="stable")]
        chosen: list[int] = best_first[: round(self._top * min(k, len(scored)))].tolist()
        gap_s = min(self._gap_ratio * distance_s, self._max_gap_s) if distance_s > self._no_gap_below_s else 0.0
        gap = round(gap_s * rate)
        number = max(self._final_min, math.ceil(len(arms) * self._zoom))
        order = np.argsort(-self._bounds(arms, scores), kind="stable")[: min(number, self._final_max)]
        each, more = divmod(k - len(chosen), len(order))
        for rank, index in enumerate(order):
            arm, wanted = arms[index], each + (rank < more)
            free = np.setdiff1d(np.arange(arm.start, arm.end), chosen)
            if not wanted or not len(free):
                continue
            far = free[np.abs(free[:, None] - np.array(chosen, dtype=np.int64)).min(1, initial=gap) >= gap]
            free = far if len(far) else free
            guessed = self._guessed(arm, scores)[free - arm.start]
            spread = np.ptp(guessed)
            logits = ((guessed - guessed.min()) / spread if spread else np.ones(len(free))) / self._temperature
            shares = np.exp(logits - logits.max())
            drawn = rng.choice(len(free), size=min(wanted, len(free)), p=shares / shares.sum(), replace=False)
            chosen.extend(free[drawn].tolist())
        return chosen

    def _guessed(self, arm: _Arm, scores: Floats) -> Floats:
        """Return a score for each frame of a part: that of the nearest sample."""
        samples = np.array(arm.samples)
        positions = np.arange(arm.start, arm.end)
        guessed = scores[samples[np.abs(positions[:, None] - samples).argmin(1)]]
        return guessed.clip(0, 1) if self._published else guessed


def _rate(times_s: Floats) -> float:
    """Return frames per second."""
    duration_s = float(times_s[-1] - times_s[0])
    return (len(times_s) - 1) / duration_s if duration_s > 0 else 1.0


def _nearest(scores: Floats) -> Floats:
    """Return scores where those that are missing are those of the nearest frame that has one, the earlier of two."""
    known = np.flatnonzero(np.isfinite(scores))
    distances = np.abs(np.arange(len(scores))[:, None] - known)
    return scores[known[distances.argmin(1)]]
