"""What must hold on a GPU, in one table within a few minutes: `sh run_scripts/gpu_check.sh`.

Nothing comes from the network: weights of published sizes are random ones, made on the GPU; tiny models are saved on
the spot. Rows are printed as they are found, what fails is a row too, and after its budget it stops.
"""

import argparse
import contextlib
import copy
import gc
import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers

from benchmarks.film import film
from benchmarks.fixtures import model_of, questions
from benchmarks.hf_side import HFSetting, OurHFSide, PlainSide
from benchmarks.inference_side import OurSide, PublishedSide, Setting
from benchmarks.measure import Measured
from benchmarks.report import seconds, write_figures
from benchmarks.training_side import Side, SideOptions
from benchmarks.variants import Variant
from lavis.cli.main import main as sevila
from lavis.common.errors import first_line
from lavis.common.types import Floats, Question
from lavis.models.frames import FrameSource
from lavis.models.hf.backbone import IMAGE, log_sums
from lavis.models.hf.model import HFModel
from lavis.models.sevila.loading import set_precision
from lavis.models.sevila.model import SeViLA
from lavis.runners.checkpoint import CheckpointSaver
from tests.integration.training.tiny_run import options, recipe, write_tiny_data, write_tiny_model
from tests.vlm.families import FAMILIES, save_tiny

_CLIP = Path(__file__).parents[1] / "sevila_checkpoints" / "clips" / "test_0000.mp4"
GPU_GIB = 24
_WIDTHS = (44, 26, 26)
# Beside the CPU in fp32, or in float64; what they are shares of is said in `_compared`.
_ALLOWED = {"float64": 1e-9, "fp32": 1e-3, "bf16": 0.25}
_SMALL_QUESTIONS = (
    Question("what is the red square?", ("a", "circle in blue", "where")),
    Question("which of the circle is in blue, and who is in the frame?", ("red", "blue", "is", "of")),
)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        against: what the figure stands beside, or what is allowed.
        passed: None where nothing is asked of the figure.
    """

    name: str
    figure: str
    against: str = ""
    passed: bool | None = None

    def show(self) -> None:
        """Print it, at once."""
        verdict = {True: "ok", False: "FAILED", None: ""}[self.passed]
        cells = zip((self.name, self.figure, self.against), _WIDTHS, strict=True)
        print("| " + " | ".join(f"{cell:<{width}}" for cell, width in cells) + f" | {verdict:<6} |", flush=True)


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        sevila: size of the model that is as published.
        parity: sizes whose answers are compared with the CPU's.
        shape: of the image-text model.
        batch: videos of a training step: published 8.
    """

    device: torch.device
    sevila: str = "xl"
    parity: tuple[str, ...] = ("tiny", "base")
    shape: str = "qwen3-vl-2b"
    num_frames: int = 32
    num_questions: int = 8
    batch: int = 8
    video_seconds: int = 40
    tiny: bool = False


Step = Callable[[Scale], Iterator[Row]]


class OutOfTime(Exception):  # noqa: N818  # no error
    """The budget is spent."""


class _Stopped(Exception):  # noqa: N818  # no error
    """A run has ended as if it had been killed."""


def start(scale: Scale) -> Iterator[Row]:
    """Name the machine, and answer a question as the CPU does."""
    device = scale.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    yield Row(name, f"torch {torch.__version__}", f"transformers {transformers.__version__}")
    asked = _answers(SeViLA.from_pretrained("tiny"), scale, size="tiny", num_frames=4)
    found = _answers(SeViLA.from_pretrained("tiny", device=str(device)), scale, size="tiny", num_frames=4)
    ours, theirs = ([one[2] for one in answers] for answers in (found, asked))
    yield Row("embedded model, answers as on the CPU", str(ours), str(theirs), ours == theirs)


def sevila_parity(scale: Scale) -> Iterator[Row]:
    """Compare frames' and options' scores with the CPU's."""
    for size in scale.parity:
        model = model_of(size, dtype="fp32", device=torch.device("cpu"))
        exact = _answers(copy.deepcopy(model).double(), scale, size=size, num_frames=4) if size == "tiny" else None
        truth = exact or _answers(model, scale, size=size, num_frames=4)
        for dtype in ("float64", "fp32", "bf16") if exact else ("fp32", "bf16"):
            there = copy.deepcopy(model).to(scale.device)
            there = there.double() if dtype == "float64" else there
            if dtype != "float64":
                set_precision(there, dtype)
            found = _answers(there, scale, size=size, num_frames=4)
            for part, what in enumerate(("frames' scores", "options' scores")):
                ours, theirs = (np.concatenate([one[part] for one in answers]) for answers in (found, truth))
                yield _compared(f"SeViLA {size}, {dtype}: {what}", ours, theirs, dtype)


def hf_parity(scale: Scale) -> Iterator[Row]:
    """Compare shared prefixes with whole prompts on the CPU, for each family."""
    pictures = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), dtype=np.uint8)
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder, _quiet():
            save_tiny(family, Path(folder))
            truth = _whole_prompts(HFModel.from_pretrained(folder), pictures)
            rows = []
            for dtype in ("fp32", "bf16"):
                model = HFModel.from_pretrained(folder, dtype=dtype, device=str(scale.device))
                frames = FrameSource(np.arange(len(pictures)), np.arange(float(len(pictures))))
                frames.add(model.feature_encoder, np.arange(len(pictures)), model.backbone.features(pictures))
                scores = model.as_scorer(prompt="multiple_choice").score(frames, _SMALL_QUESTIONS).scores
                shared = model.backbone.shares_prefixes(frames.encoded(model.feature_encoder, [0]))
                note = "" if shared else ", not shared"
                rows.append(_compared(f"{family}, {dtype}", scores, truth, dtype, note=note))
        yield from rows


def resume(scale: Scale) -> Iterator[Row]:
    """Stop a run after its first checkpoint, go on, and compare with one that was not stopped."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data, model = write_tiny_data(folder / "data"), write_tiny_model(folder / "model")
        for amp in ("none", "bf16") if scale.device.type == "cpu" else ("none", "bf16", "fp16"):
            precision = {"amp": "false"} if amp == "none" else {"amp": "true", "amp_dtype": amp}
            places = [folder / f"{amp}-{name}" for name in ("whole", "stopped")]
            codes = [_train(data, model, places[0], scale, precision)]
            with (
                patch.object(CheckpointSaver, "save", _save_and_stop(CheckpointSaver.save)),
                contextlib.suppress(_Stopped),
            ):
                _train(data, model, places[1], scale, precision)
            codes.append(_train(data, model, places[1], scale, precision))
            if any(codes):
                yield Row(f"train and resume, autocast {amp}", f"exit codes {codes}", "", passed=False)
                continue
            one, other = (_weights(place) for place in places)
            error = max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
            allowed = 0.0 if scale.device.type == "cpu" else 1e-3
            finite = all(bool(weight.isfinite().all()) for weight in one.values())
            said = f"weights off by {error:.1e}" if finite else "weights are not finite"
            yield Row(f"train and resume, autocast {amp}", said, f"{allowed:g}", finite and error <= allowed)


def sevila_speed(scale: Scale) -> Iterator[Row]:
    """Ask at the published size and precision, the published way and ours."""
    setting = Setting(
        size=scale.sevila,
        device=str(scale.device),
        threads=None,
        video_seconds=scale.video_seconds,
        num_questions=scale.num_questions,
        num_frames=scale.num_frames,
        num_keyframes=4,
    )
    dtype = "fp32" if scale.device.type == "cpu" else "fp16"  # the language model is in bf16 then, as published
    with _quiet():
        published: Any = PublishedSide(setting, dtype, "eager")
        published.ask_next()
        rounds = [published.ask_next() for _ in range(3)]
    baseline = _median(rounds, scale)
    name = f"SeViLA {scale.sevila}, {dtype}"
    yield Row(f"{name}: published, a question", seconds(baseline), f"peak {_gib(rounds)}")
    theirs = dict(one.last for one in rounds)
    del published
    _free()
    with _quiet():
        ours = OurSide(setting, Variant(dtype))
        ours.warm_up()
        ours.ask(scale.num_questions)
    for count in (1, scale.num_questions):
        taken = [ours.ask(count) for _ in range(2)]
        spent = _median(taken, scale) / count
        said = f"{seconds(spent)}, {baseline / spent:.2f}×"
        yield Row(f"{name}: ours, of {count} questions each", said, f"peak {_gib(taken)}")
    answers = taken[-1].last.answers
    same = sum(answers[number].index == answer.index for number, answer in theirs.items())
    yield Row(f"{name}: same answers", f"{same} of {len(theirs)}")
    rate = ours.rate_flops() / _median([ours.rate() for _ in range(3)], scale) / 1e12
    yield Row("matrices in the vision tower's precision", f"{rate:.3g} TFLOP/s")
    del ours
    _free()


def hf_speed(scale: Scale) -> Iterator[Row]:
    """Ask an image-text model the plain way and ours."""
    dtype = "fp32" if scale.device.type == "cpu" else "bf16"
    setting = HFSetting(
        shape=scale.shape,
        dtype=dtype,
        device=str(scale.device),
        threads=None,
        num_questions=scale.num_questions,
        num_frames=scale.num_frames,
        num_keyframes=4,
        video_seconds=scale.video_seconds,
        batch=16,
    )
    plain = PlainSide(setting)
    every = np.arange(scale.num_frames)
    plain.score(0, every)
    plain.answer(0, every[:4])
    asked = [(plain.score(number, every), plain.answer(number, every[:4])) for number in range(2)]
    both = [one for pair in asked for one in pair]
    baseline = sum(one.median_spent_s(scale.device) for one in both) / len(asked)
    yield Row(f"{scale.shape}, {dtype}: plain, a question", seconds(baseline), f"peak {_gib(both)}")
    truth = [score.last[:, 0] for score, _ in asked]
    del plain
    _free()
    ours = OurHFSide(setting)
    ours.warm_up()
    for _ in range(2):
        watched = ours.watch()
        found = [ours.ask(number) for number in range(scale.num_questions)]
    spent = [one.median_spent_s(scale.device) for one in found]
    one, every_one = watched.median_spent_s(scale.device) + spent[0], watched.median_spent_s(scale.device) + sum(spent)
    peak = f"peak {_gib([watched, *found])}"
    for name, taken in (
        ("one question", one),
        (f"of {len(found)} questions each", every_one / len(found)),
        ("each further", float(np.median(spent[1:]))),
    ):
        yield Row(f"{scale.shape}, {dtype}: {name}", f"{seconds(taken)}, {baseline / taken:.2f}×", peak)
    scores = [asked.last.keyframes.all_scores for asked in found[: len(truth)]]
    yield _compared(f"{scale.shape}, {dtype}: scores", np.concatenate(scores), np.concatenate(truth), dtype)
    decoded = f"{seconds(ours.parts_s()['decode'])} of our first question"
    yield Row(f"{scale.shape}: decoding, ours alone", decoded)
    kept = ", ".join(f"{name} {value / 2**20:.2f}" for name, value in ours.kept_bytes().items())
    yield Row(f"{scale.shape}: MiB kept of a frame", kept)
    yield Row(f"{scale.shape}: prefixes are shared", str(ours.shares()), "", ours.shares())
    del ours
    _free()


def training_memory(scale: Scale) -> Iterator[Row]:
    """Run training steps of the published batch, and see whether they fit into `GPU_GIB`."""
    for task, frames in (("self_refinement", 4), ("answerer_finetuning", scale.num_frames)):
        on_gpu = scale.device.type == "cuda"
        options = SideOptions(
            side="ours",
            task=task,
            size=scale.sevila,
            dtype="fp16" if on_gpu else "fp32",
            device=str(scale.device),
            threads=None,
            amp="bf16" if on_gpu else None,
            checkpointing="torch",
            batch_size=scale.batch,
            num_frames=frames,
            num_keyframes=4,
        )
        with _quiet():
            side = Side(options)
            loss = side.first().loss
            steps = [side.measure() for _ in range(2)]
        fits = max(one.peak_bytes for one in steps) <= GPU_GIB * 2**30
        said = f"{_gib(steps)}, {seconds(_median(steps, scale))} a step"
        yield Row(f"{task}, {scale.batch} × {frames} frames", said, f"{GPU_GIB} GiB", fits and bool(np.isfinite(loss)))
        del side
        _free()


# Each step with the seconds that it takes on a GPU: it is left out where less is left.
STEPS: dict[str, tuple[Step, int]] = {
    "start": (start, 20),
    "sevila-parity": (sevila_parity, 40),
    "hf-parity": (hf_parity, 60),
    "resume": (resume, 60),
    "sevila-speed": (sevila_speed, 100),
    "hf-speed": (hf_speed, 60),
    "training-memory": (training_memory, 80),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run all steps that fit into the budget; return 1 where something failed."""
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tiny", action="store_true", help="everything on the CPU, at tiny sizes")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... (default: cuda)")
    parser.add_argument("--budget", type=int, default=480, help="seconds after which it stops (default: 480)")
    parser.add_argument("--only", nargs="+", choices=tuple(STEPS), metavar="STEP", help=f"of {', '.join(STEPS)}")
    parser.add_argument("--json", type=Path, default=Path("output/benchmarks/gpu_check.json"), help="where rows go")
    args = parser.parse_args(argv)
    if not args.tiny and not torch.cuda.is_available():
        print("error: no GPU; --tiny runs everything on the CPU", file=sys.stderr)
        return 2
    if args.tiny:
        torch.set_num_threads(1)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    transformers.logging.set_verbosity_error()
    # As exact as the CPU.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    scale = _tiny() if args.tiny else Scale(torch.device(args.device))
    started = time.monotonic()
    rows = list(_run(args.only or STEPS, scale, started + args.budget))
    failed = sum(row.passed is False for row in rows)
    print(f"\n{len(rows)} rows in {time.monotonic() - started:.0f} s, {failed} failed", flush=True)
    write_figures(args.json, {"rows": [asdict(row) for row in rows]}, device=scale.device)
    return int(failed > 0)


def _tiny() -> Scale:
    return Scale(
        torch.device("cpu"),
        sevila="tiny",
        parity=("tiny",),
        shape="qwen3-vl-tiny",
        num_frames=6,
        num_questions=3,
        batch=2,
        video_seconds=2,
        tiny=True,
    )


def _run(steps: Iterable[str], scale: Scale, until: float) -> Iterator[Row]:
    """Yield rows, each printed; a step that fails is one, and its traceback goes to standard error."""
    Row("", "figure", "against").show()
    print("|" + "|".join("-" * (width + 2) for width in (*_WIDTHS, 6)) + "|")
    for name in steps:
        step, expected_s = STEPS[name]
        left = until - time.monotonic()
        if left < (1 if scale.tiny else expected_s):
            yield from _shown([Row(name, "left out", f"{left:.0f} s are left")])
            continue
        try:
            with _at_most(left):
                yield from _shown(step(scale))
        except OutOfTime:
            yield from _shown([Row(name, "out of time", "")])
        except Exception as error:  # noqa: BLE001  # whatever it is, the steps after it are run
            traceback.print_exc()
            yield from _shown([Row(name, f"{type(error).__name__}: {first_line(error)}", "", passed=False)])
        _free()


def _shown(rows: Any) -> Iterator[Row]:
    for row in rows:
        row.show()
        yield row


@contextlib.contextmanager
def _at_most(limit_s: float) -> Iterator[None]:
    """Raise `OutOfTime` within the block once so many seconds are over."""

    def stop(*_: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what parts print out of the table."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _answers(model: SeViLA, scale: Scale, *, size: str, num_frames: int) -> list[tuple[Floats, Floats, int | None]]:
    """Return frames' scores, options' scores and the answer of two questions."""
    # The embedded model is asked about its own world.
    video = _CLIP if size == "tiny" else film(scale.video_seconds)
    watched = model.watch(video, num_frames=num_frames)
    # Every frame is read, so that rounding chooses nothing.
    found = watched.ask_all(questions(2, size=size), num_keyframes=num_frames)
    return [(one.keyframes.all_scores, one.option_scores, one.index) for one in found]


def _compared(name: str, ours: Floats, theirs: Floats, dtype: str, *, note: str = "") -> Row:
    """Compare scores: the largest difference with their spread, or in bf16, which random weights amplify, sizes."""
    if dtype == "bf16":
        error, of_what = np.sqrt(np.square(ours - theirs).mean() / np.square(theirs).mean()), "their size"
    else:
        error, of_what = np.abs(ours - theirs).max() / theirs.std(), "their spread"
    allowed = _ALLOWED[dtype]
    return Row(name, f"off by {error:.1e}{note}", f"{allowed:g} of {of_what}", bool(error <= allowed))


@torch.inference_mode()
def _whole_prompts(model: HFModel, pictures: Any) -> Floats:
    """Return the logits of "yes" [B, T], each frame and question in a prompt of its own."""
    backbone, prompt = model.backbone, model.words("multiple_choice")
    features = backbone.features(pictures)
    size = backbone.size_of(features)
    rows = [
        backbone.logits([backbone.ids([IMAGE, prompt.localizer(question)], size)], one[None])
        for question in _SMALL_QUESTIONS
        for one in features
    ]
    yes = log_sums(torch.cat(rows), model.yes_no)[:, 0].double().numpy()
    return yes.reshape(len(_SMALL_QUESTIONS), len(pictures))


def _train(data: Path, model: Path, output: Path, scale: Scale, precision: dict[str, str]) -> int:
    run = {
        **{"device": scale.device, "valid_splits": "[]", "test_splits": "[]", "save_freq": 2, "resume": "auto"},
        **precision,
    }
    small = options("finetune", data=data, model=model, output=output, **run)
    with _quiet():
        return sevila(["train", "--cfg-path", str(recipe("finetune")), "--options", *small])


def _save_and_stop(save: Callable[..., None]) -> Callable[..., None]:
    """Return what saves a checkpoint and ends the run, as if it had been killed."""

    def stop(self: CheckpointSaver, *arguments: Any, **named: Any) -> None:
        save(self, *arguments, **named)
        raise _Stopped

    return stop


def _weights(output: Path) -> dict[str, torch.Tensor]:
    """Return the weights that a run has ended with."""
    from safetensors.torch import load_file

    return load_file(max(output.rglob("model.safetensors"), key=lambda file: file.stat().st_mtime))


def _median(measured: Sequence[Measured], scale: Scale) -> float:
    return float(np.median([one.median_spent_s(scale.device) for one in measured]))


def _gib(measured: Sequence[Measured]) -> str:
    return f"{max(one.peak_bytes for one in measured) / 2**30:.2f} GiB"


if __name__ == "__main__":
    sys.exit(main())
