"""Answering questions about a video file, against the published procedure on the same weights."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.decoders import decoding_rate
from benchmarks.film import film
from benchmarks.flops import FlopCounter, Flops, MinFlops
from benchmarks.inference_side import Asked, OurSide, PublishedSide, Setting, setting_of
from benchmarks.measure import Measured, set_threads
from benchmarks.published import PublishedAnswer
from benchmarks.report import seconds, show_machine, show_table, write_figures
from benchmarks.subprocess_worker import SubprocessWorker
from benchmarks.variants import DTYPES, EXHAUSTIVE, PLAIN, VARIANTS, Variant
from lavis.common.errors import ConfigError
from lavis.common.types import Floats
from lavis.models.machine import usable_device
from lavis.models.pipeline import Timings
from lavis.models.precision import QUANTIZATIONS, check_quantization

SUMMARY = "Seconds per question, against the published procedure on the same weights."
DECODERS = 2
PARTS = ("decode", "watch", "localize", "answer")
Figures = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of how many frames, and how."""
    parser.add_argument("--questions", type=int, default=8, help="questions about one video (default: 8)")
    parser.add_argument("--num-frames", type=int, default=32, help="frames watched (default: 32)")
    parser.add_argument("--num-keyframes", type=int, default=4, help="frames read (default: 4)")
    parser.add_argument("--video-seconds", type=int, default=40, help="length of the film (default: 40)")
    named = f"several variants of ours, of: {', '.join(VARIANTS)}"
    parser.add_argument("--variants", "--ways", nargs="+", choices=VARIANTS, metavar="VARIANT", help=named)
    group = parser.add_argument_group("one variant of ours, with --dtype")
    group.add_argument("--selector", choices=(EXHAUSTIVE, "coarse_to_fine"), default=EXHAUSTIVE, help="who chooses")
    group.add_argument("--quantize", choices=QUANTIZATIONS, help="bits of vision tower and language model")
    group.add_argument("--compile", action="store_true", help="compile first")
    group = parser.add_argument_group("the published procedure")
    group.add_argument("--baseline-dtype", choices=DTYPES, default="fp32", help="precision (default: fp32)")
    group.add_argument(
        "--baseline-attention", choices=("eager", "sdpa"), default="eager", help="as published: eager (default)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure, show and write down."""
    variants = variants_of(args)
    for variant in variants:
        if variant.quantize:
            check_quantization(variant.quantize)
    device = usable_device(args.device)
    set_threads(args.threads)
    setting = setting_of(args)
    film(setting.video_seconds)  # made before several processes would make it
    show_machine(device)
    with closing(SubprocessWorker(FlopCounter, setting)) as counter:
        min_flops = counter.call("count")
    published, ours = _measure(args, setting, variants)
    rate = decoding_rate(setting.video_seconds, num_frames=setting.num_frames, workers=DECODERS)
    figures = figures_of(published, ours, min_flops, device=device)
    show(figures)
    show_decoding(figures, num_frames=setting.num_frames, decoding_rate=rate, workers=DECODERS)
    options = {name: value for name, value in vars(args).items() if name not in ("run", "json", "profile")}
    decoding = {"workers": DECODERS, "frames_per_s": rate}
    write_figures(args.json, {"options": options, **figures, "decoding": decoding}, device=device)


def variants_of(args: argparse.Namespace) -> list[Variant]:
    """Return the variants that were named, or the one that is described.

    Raises:
        ConfigError: both are given.
    """
    described = Variant(args.dtype, selector=args.selector, quantize=args.quantize, compiled=args.compile)
    if not args.variants:
        return [described]
    if described != PLAIN:
        raise ConfigError(
            f"--variants names whole variants; leave out what describes {described.name!r}, or --variants"
        )
    return [VARIANTS[name] for name in dict.fromkeys(args.variants)]


class PublishedResults:
    """Results of the published procedure, which answers one question a round.

    Args:
        side: a `PublishedSide`.
    """

    def __init__(self, side: SubprocessWorker) -> None:
        self._side = side
        self.measured = Measured()
        self.answers: dict[int, PublishedAnswer] = {}

    def run_round(self) -> None:
        """Run a round."""
        self.measured.include(self._side.call("ask_next"))
        number, answer = self.measured.last
        self.answers[number] = answer


class VariantResults:
    """Results of one variant of ours; a round multiplies matrices, asks one question, and asks all of them.

    Args:
        side: an `OurSide`.
        num_questions: how many all are.
    """

    def __init__(self, side: SubprocessWorker, variant: Variant, num_questions: int) -> None:
        self.side, self.variant = side, variant
        self.rate = Measured()
        self.asked = {count: Measured() for count in (1, num_questions)}
        self.rate_flops: int = side.call("rate_flops")
        self.weight_bytes: int = side.call("weight_bytes")
        self.warm_up: Measured = side.call("warm_up")
        self._compiled_first: int = side.call("compiled_graphs")
        self.compiled_again = 0

    def run_round(self) -> None:
        """Run a round."""
        self.rate.include(self.side.call("rate"))
        for count, measured in self.asked.items():
            measured.include(self.side.call("ask", count))

    def finish(self) -> None:
        """Count what was compiled after the warm-up."""
        self.compiled_again = self.side.call("compiled_graphs") - self._compiled_first


def _measure(
    args: argparse.Namespace, setting: Setting, variants: Sequence[Variant]
) -> tuple[PublishedResults, list[VariantResults]]:
    """Run all sides by turns, each in a process of its own."""
    with ExitStack() as stack:

        def start(*made: Any) -> SubprocessWorker:
            return stack.enter_context(closing(SubprocessWorker(*made)))

        published = PublishedResults(start(PublishedSide, setting, args.baseline_dtype, args.baseline_attention))
        ours = [VariantResults(start(OurSide, setting, one), one, setting.num_questions) for one in variants]
        sides: list[PublishedResults | VariantResults] = [published, *ours]
        for turn in range(args.repeats):
            first = turn % len(sides)
            for side in sides[first:] + sides[:first]:
                side.run_round()
        for results in ours:
            results.finish()
            if args.profile:
                trace = args.profile.with_stem(f"{args.profile.stem}-{results.variant.name}")
                results.side.call("profile", trace)
                print(f"trace: {trace}")
    return published, ours


def figures_of(
    published: PublishedResults, variants: Sequence[VariantResults], min_flops: MinFlops, *, device: torch.device
) -> Figures:
    """Put together what goes into the JSON file; all else is shown from it."""
    baseline = published.measured
    _, answer = baseline.last
    return {
        "published": {**baseline.figures(), "parts_s": _seconds_of(answer.timings)},
        "ways": {ours.variant.name: _variant(ours, published, min_flops, device) for ours in variants},
    }


def _variant(ours: VariantResults, published: PublishedResults, min_flops: MinFlops, device: torch.device) -> Figures:
    rate = ours.rate_flops / ours.rate.median_spent_s(device)
    last = [measured.last for measured in ours.asked.values()][-1]
    return {
        **asdict(ours.variant),
        "matrix_rate_gflops": rate / 1e9,
        "weight_mib": ours.weight_bytes / 2**20,
        "first_run_s": ours.warm_up.median_s,
        "compiled_again": ours.compiled_again,
        "scored": last.scored,
        "agreement": agreement(last, published.answers),
        "runs": {
            str(count): _run(measured, count, published.measured, min_flops.of(measured.last), rate, device)
            for count, measured in ours.asked.items()
        },
    }


def _run(
    measured: Measured, count: int, baseline: Measured, flops: Flops, rate: float, device: torch.device
) -> Figures:
    taken = _seconds_of(measured.last.timings)
    by_part = asdict(flops)
    return {
        **measured.figures(),
        "ratio": baseline.median_s / measured.median_s * count,
        "ratio_cpu": baseline.median_cpu_s / measured.median_cpu_s * count,
        "share_of_floor": flops.total / rate / measured.median_spent_s(device),
        "parts_s": taken,
        "gflop": {part: work / 1e9 for part, work in by_part.items()},
        "parts_share_of_floor": {part: work / rate / taken[part] for part, work in by_part.items()},
    }


def agreement(asked: Asked, published: Mapping[int, PublishedAnswer]) -> Figures:
    """Compare with what the published procedure has answered, over the frames that were scored."""
    pairs = [(asked.answers[number], theirs) for number, theirs in published.items()]
    return {
        "compared": len(pairs),
        "same_answer": sum(ours.index == theirs.index for ours, theirs in pairs),
        "same_frames": sum(np.array_equal(ours.keyframes.positions, theirs.positions) for ours, theirs in pairs),
        "worst_frame_score_error": _worst([(a.keyframes.all_scores, b.scores) for a, b in pairs]),
        "worst_option_score_error": _worst([(a.option_scores, b.option_scores) for a, b in pairs]),
    }


def _worst(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    return max((float(np.nanmax(np.abs(ours - theirs))) for ours, theirs in pairs), default=0.0)


def _seconds_of(timings: Timings) -> dict[str, float]:
    return {part: getattr(timings, f"{part}_s") for part in PARTS}


def show(figures: Figures) -> None:
    """Print how long it takes, in which parts, and how answers agree."""
    runs = list(_runs(figures))
    print("\nper question:")
    headings = ["", "questions", "median", "spread", "ratio", "CPU time", "ratio in CPU time", "of min FLOPs", "peak"]
    first = _time_row("published", 1, {**figures["published"], "ratio": 1, "ratio_cpu": 1, "share_of_floor": None})
    show_table(headings, [first, *(_time_row(*run) for run in runs)])
    print("\ntime spent in the last round, all questions together:")
    shares = [heading for part in PARTS[1:] for heading in (part, "of min FLOPs")]
    first = _parts_row("published", 1, {**figures["published"], "parts_share_of_floor": {}})
    show_table(["", "questions", PARTS[0], *shares], [first, *(_parts_row(*run) for run in runs)])
    print("\nbeside the published answers:")
    headings = ["", "matrix rate", "weights", "first run", "all to one", "frames scored", "same answers", "same frames"]
    rows = [_variant_row(name, variant) for name, variant in figures["ways"].items()]
    show_table([*headings, "a frame's score off by", "an option's"], rows)
    for name, variant in figures["ways"].items():
        if variant["compiled"]:
            print(f"{name}: {variant['compiled_again']} pieces were compiled after the first run")


def _runs(figures: Figures) -> Iterator[tuple[str, int, Figures]]:
    """Yield the name of a variant, the number of questions, and the figures of that run."""
    for name, variant in figures["ways"].items():
        for count, run in variant["runs"].items():
            yield name, int(count), run


def _time_row(name: str, count: int, run: Figures) -> list[str]:
    return [
        name,
        str(count),
        seconds(run["median_s"] / count),
        f"±{run['spread']:.0%}",
        f"{run['ratio']:.2f}×",
        seconds(run["median_cpu_s"] / count),
        f"{run['ratio_cpu']:.2f}×",
        _share(run["share_of_floor"]),
        f"{run['peak_mib']:.0f} MiB",
    ]


def _parts_row(name: str, count: int, run: Figures) -> list[str]:
    taken, shares = run["parts_s"], run["parts_share_of_floor"]
    cells = [cell for part in PARTS[1:] for cell in (seconds(taken[part]), _share(shares.get(part)))]
    return [name, str(count), seconds(taken[PARTS[0]]), *cells]


def _variant_row(name: str, variant: Figures) -> list[str]:
    agrees, runs = variant["agreement"], list(variant["runs"].values())
    return [
        name,
        f"{variant['matrix_rate_gflops']:.0f} GFLOP/s",
        f"{variant['weight_mib']:.0f} MiB",
        seconds(variant["first_run_s"]),
        f"{runs[-1]['median_s'] / runs[0]['median_s']:.2f}×",
        f"{variant['scored']:.0%}",
        f"{agrees['same_answer']} of {agrees['compared']}",
        f"{agrees['same_frames']} of {agrees['compared']}",
        f"{agrees['worst_frame_score_error']:.2g}",
        f"{agrees['worst_option_score_error']:.2g}",
    ]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def show_decoding(figures: Figures, *, num_frames: int, decoding_rate: float, workers: int) -> None:
    """Print whether worker processes decode as fast as each variant takes frames."""
    print(f"\n{workers} processes decode {decoding_rate:.3g} frames/s of this film;")
    for name, count, run in _runs(figures):
        rate = model_rate(run, num_frames=num_frames)
        asked = "1 question" if count == 1 else f"{count} questions"
        print(f"{name} with {asked} a video takes {rate:.3g} frames/s: {compared(decoding_rate, rate)}")


def model_rate(run: Figures, *, num_frames: int) -> float:
    """Return how many frames a second the model takes, on the clock, if decoding cost nothing."""
    taken = run["parts_s"]
    decoding = taken["decode"] / sum(taken.values())
    return num_frames / (run["median_s"] * (1 - decoding))


def compared(decoding: float, model: float) -> str:
    """Word which of two rates is the lower one, and by how much."""
    if decoding < model:
        return f"decoding is the slowest stage, by {model / decoding:.1f}×"
    return f"decoding is not the slowest stage, {decoding / model:.1f}× as fast"
