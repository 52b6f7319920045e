"""Questions to image-text models of transformers, against the plain way on the same random weights."""

import argparse
import statistics
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.hf_fixtures import SHAPES
from benchmarks.hf_side import HFSetting, OurHFSide, PlainSide
from benchmarks.measure import Measured, set_threads
from benchmarks.report import seconds, show_machine, show_table, write_figures
from benchmarks.subprocess_worker import SubprocessWorker
from lavis.models.machine import usable_device

SUMMARY = "Seconds per question of an image-text model of transformers, against one prompt per frame and question."
SIZES = SHAPES
Figures = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is asked of how many frames."""
    parser.add_argument("--questions", type=int, default=8, help="questions about one video (default: 8)")
    parser.add_argument("--num-frames", type=int, default=32, help="frames watched (default: 32)")
    parser.add_argument("--num-keyframes", type=int, default=4, help="frames read (default: 4)")
    parser.add_argument("--video-seconds", type=int, default=40, help="length of the film (default: 40)")
    parser.add_argument("--batch", type=int, default=4, help="prompts that the plain way runs at once (default: 4)")
    parser.add_argument(
        "--plain-frames", type=int, help="frames the plain way scores; its time is scaled up (default: all)"
    )
    parser.add_argument(
        "--plain-questions", type=int, help="questions the plain way is asked; all cost the same (default: all)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure, show and write down."""
    device = usable_device(args.device)
    set_threads(args.threads)
    show_machine(device)
    setting = HFSetting(
        shape=args.size,
        dtype=args.dtype,
        device=args.device,
        threads=args.threads,
        num_questions=args.questions,
        num_frames=args.num_frames,
        num_keyframes=args.num_keyframes,
        video_seconds=args.video_seconds,
        batch=args.batch,
    )
    spent = Measured.median_spent_s
    with ExitStack() as stack:
        ours, plain = (stack.enter_context(closing(SubprocessWorker(side, setting))) for side in (OurHFSide, PlainSide))
        first = spent(ours.call("warm_up"), device)
        plain.call("warm_up")
        flops = ours.call("count")
        rounds = [_round(args, ours, plain) for _ in range(args.repeats)]
        kept, shares, rate_flops = ours.call("kept_bytes"), ours.call("shares"), ours.call("rate_flops")
    figures = {
        "setting": asdict(setting),
        "plain_frames": len(_sampled(args)),
        "plain_questions": args.plain_questions or args.questions,
        "first_frame_s": first,
        "flops": flops,
        "kept_bytes": kept,
        "shares": shares,
        **_figures(rounds, device, rate_flops, args, flops),
    }
    show(figures)
    write_figures(args.json, figures, device=device)


def _sampled(args: argparse.Namespace) -> Any:
    """Return the positions of the frames that the plain way scores."""
    return np.unique(np.linspace(0, args.num_frames - 1, args.plain_frames or args.num_frames).round().astype(np.int64))


def _round(args: argparse.Namespace, ours: SubprocessWorker, plain: SubprocessWorker) -> dict[str, Any]:
    """Watch, and ask both sides each question by turns."""
    found: dict[str, Any] = {"rate": [ours.call("rate")], "watch": ours.call("watch"), "ask": [], "plain": []}
    for number in range(args.questions):
        asked = ours.call("ask", number)
        found["ask"].append(asked)
        if number == 0:
            found["parts_first"] = ours.call("parts_s")
        if number < (args.plain_questions or args.questions):
            positions = asked.last.keyframes.positions
            found["plain"].append(
                (plain.call("score", number, _sampled(args)), plain.call("answer", number, positions))
            )
            found["rate"].append(ours.call("rate"))
    found["parts"] = ours.call("parts_s")
    return found


def _figures(rounds: list[Any], device: Any, rate_flops: int, args: argparse.Namespace, flops: Figures) -> Figures:
    """Put together what is shown."""

    def spent(measured: Measured) -> float:
        return measured.median_spent_s(device)

    scale, count = args.num_frames / len(_sampled(args)), args.questions
    plain = statistics.median(spent(score) * scale + spent(answer) for one in rounds for score, answer in one["plain"])
    plain_scores = statistics.median(spent(score) * scale for one in rounds for score, _ in one["plain"])
    totals = {
        1: statistics.median(spent(one["watch"]) + spent(one["ask"][0]) for one in rounds),
        count: statistics.median(spent(one["watch"]) + sum(map(spent, one["ask"])) for one in rounds),
    }
    further = statistics.median(spent(one) for found in rounds for one in found["ask"][1:] or found["ask"])
    first, parts = rounds[-1]["parts_first"], rounds[-1]["parts"]
    scoring, first_scoring = (sum(one.values()) - one["answer"] for one in (parts, first))
    rate = rate_flops / statistics.median(spent(one) for found in rounds for one in found["rate"])
    needed = _needed(flops, args.num_frames, count)
    ours_peak = max(one.peak_bytes for found in rounds for one in (found["watch"], *found["ask"]))
    plain_peak = max(one.peak_bytes for found in rounds for pair in found["plain"] for one in pair)
    return {
        "plain_s": plain,
        "plain_score_s": plain_scores,
        "plain_share_of_floor": needed["plain"] / rate / plain,
        "runs": {
            str(asked): {
                "per_question_s": total / asked,
                "ratio": plain * asked / total,
                "share_of_floor": needed[str(asked)] / rate / total,
            }
            for asked, total in totals.items()
        },
        "further_s": further,
        "further_ratio": plain / further,
        "further_share_of_floor": needed["further"] / rate / further,
        "floor_ratio": {
            "1": needed["plain"] / needed["1"],
            str(count): needed["plain"] * count / needed[str(count)],
            "further": needed["plain"] / needed["further"],
        },
        "score_ratio": {
            "1": plain_scores / first_scoring,
            str(count): plain_scores * count / scoring,
            "each further": plain_scores * (count - 1) / (scoring - first_scoring) if count > 1 else 0.0,
        },
        "parts_first_s": first,
        "parts_s": parts,
        "matrix_rate_gflops": rate / 1e9,
        "peak_mib": {"plain": plain_peak / 2**20, "ours": ours_peak / 2**20, "ratio": ours_peak / plain_peak},
        "agreement": agreement(rounds[-1], _sampled(args)),
    }


def _needed(flops: Figures, num_frames: int, count: int) -> dict[str, float]:
    """Return the fewest operations of both ways: of a plain question, of one and of all of ours, of a further one."""
    per_frame = flops["vision"] + flops["prefix"]
    asked = [num_frames * suffix + answer for suffix, answer in zip(flops["suffix"], flops["answer"], strict=True)]
    keyframes = flops["num_keyframes"] * flops["vision"]
    whole = [num_frames * (flops["vision"] + one) for one in flops["whole"]]
    plain = [one + answer + keyframes for one, answer in zip(whole, flops["answer"], strict=True)]
    return {
        "plain": statistics.mean(plain),
        "1": num_frames * per_frame + asked[0],
        str(count): num_frames * per_frame + sum(asked),
        "further": statistics.mean(asked),
    }


def agreement(found: dict[str, Any], positions: Any) -> Figures:
    """Compare scores, their order, and answers of both sides."""
    pairs = list(zip(found["ask"], found["plain"], strict=False))
    scores = [(ours.last.keyframes.all_scores[positions], score.last[:, 0]) for ours, (score, _) in pairs]
    options = [(ours.last.option_scores, answer.last) for ours, (_, answer) in pairs]
    return {
        "compared": len(pairs),
        "same_answer": sum(ours.last.index == int(answer.last.argmax()) for ours, (_, answer) in pairs),
        "same_order": sum(bool(np.array_equal(np.argsort(a), np.argsort(b))) for a, b in scores),
        "worst_score_error": max(float(np.abs(a - b).max() / b.std()) if len(b) > 1 else 0.0 for a, b in scores),
        "worst_option_error": max(float(np.abs(a - b).max() / b.std()) for a, b in options),
    }


def show(figures: Figures) -> None:
    """Print how long it takes, in which parts, and how answers agree."""
    setting, flops, peak = figures["setting"], figures["flops"], figures["peak_mib"]
    tokens = statistics.mean(flops["suffix_tokens"])
    print(
        f"\n{setting['shape']}, {setting['dtype']}: {setting['num_frames']} frames, {setting['num_keyframes']} read; "
        f"prefixes of {flops['prefix_tokens']} tokens, suffixes of {tokens:.0f}; "
        f"the plain way {setting['batch']} prompts at once, {figures['plain_questions']} questions "
        f"on {figures['plain_frames']} of the frames, scaled up; per question:"
    )
    if not figures["shares"]:
        print("prefixes are not shared between questions")
    headings = ["", "questions", "time", "ratio", "by arithmetic", "of min FLOPs", "peak"]
    rows = [["plain", "1", seconds(figures["plain_s"]), "1.00×", "", _share(figures["plain_share_of_floor"])]]
    for count, one in figures["runs"].items():
        arithmetic = f"{figures['floor_ratio'][count]:.2f}×"
        row = ["ours", count, seconds(one["per_question_s"]), f"{one['ratio']:.2f}×", arithmetic]
        rows.append([*row, _share(one["share_of_floor"])])
    arithmetic, share = f"{figures['floor_ratio']['further']:.2f}×", _share(figures["further_share_of_floor"])
    ratio = f"{figures['further_ratio']:.2f}×"
    rows.append(["ours", "each further", seconds(figures["further_s"]), ratio, arithmetic, share])
    peaks = [f"{peak['plain']:.0f} MiB", *[f"{peak['ours']:.0f} MiB"] * (len(rows) - 1)]
    show_table(headings, [[*row, one] for row, one in zip(rows, peaks, strict=True)])
    scores = ", ".join(f"{name}: {ratio:.2f}×" for name, ratio in figures["score_ratio"].items())
    print(f"\nscoring frames alone, by number of questions: {scores}")
    print(
        f"peak memory is {peak['ratio']:.2f} of the plain way's; matrices {figures['matrix_rate_gflops']:.0f} GFLOP/s"
    )
    per_frame = [f"{name} {value / 2**20:.2f} MiB" for name, value in figures["kept_bytes"].items()]
    print(f"kept of a frame: {', '.join(per_frame)}")
    suffix, answer = statistics.mean(flops["suffix"]), statistics.mean(flops["answer"])
    print(
        f"GFLOP: vision {flops['vision'] / 1e9:.1f} and prefix {flops['prefix'] / 1e9:.1f} of a frame, suffix "
        f"{suffix / 1e9:.1f} of a frame and question, answer {answer / 1e9:.1f} of a question"
    )
    headings = ["time of all questions", "decode", "watch and prefixes", "localize", "answer"]
    named = {"1 question": figures["parts_first_s"], f"{setting['num_questions']} questions": figures["parts_s"]}
    show_table(headings, [[name, *(_of_all(parts, part) for part in parts)] for name, parts in named.items()])
    agrees = figures["agreement"]
    print(
        f"\nbeside the plain way: {agrees['same_answer']} of {agrees['compared']} answers the same, frames in the same "
        f"order for {agrees['same_order']}; scores off by {agrees['worst_score_error']:.1e} of their spread at most, "
        f"options' by {agrees['worst_option_error']:.1e}; loading's check and a frame took "
        f"{seconds(figures['first_frame_s'])}"
    )


def _of_all(parts: dict[str, float], part: str) -> str:
    return f"{seconds(parts[part])} ({parts[part] / sum(parts.values()):.0%})"


def _share(value: float) -> str:
    return f"{value:.0%}"
