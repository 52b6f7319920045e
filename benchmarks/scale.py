"""What SeViLA at Flan-T5-XL size takes of many machines, computed from its shapes and not measured.

    python -m benchmarks.scale

prints the tables of docs/scale.md. Operations are counted by torch on a model without weights; a prompt of 72 tokens
beside a frame's 32 is assumed, and a GPU that keeps up 250 TFLOP/s in bf16. Exchanged gradients are those of a ring;
nothing of the exchange is taken to happen while the GPU computes, which it does in part.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lavis.models.sevila.build import build_on_meta
from lavis.models.sevila.config import read_config

HOURS, RATE = 100_000, 250e12
_TEXT, _PREFIX, _KEYFRAMES = 72, 3, 4
_BATCH, _FRAMES = 64, 4  # of self-refinement, as published: 4 GPUs of 16 videos
_LINKS = {"10 Gbit/s": 1.25e9, "400 Gbit/s": 50e9, "300 GB/s": 300e9}  # bytes a second
# Measured: `python -m benchmarks long-video`, decoding an hour at one frame a second.
_DECODE_S = 21.5


@dataclass(frozen=True)
class Costs:
    """Of one frame or answer in FLOP, and of the model in parameters.

    Attributes:
        tower: the vision tower on a frame.
        prompter: one role's Q-Former on it.
        verdict: the language model on one frame and one question.
        answer: one answer from 4 keyframes, with the Answerer's Q-Former on them.
        trained: parameters of one role, which is what a stage trains.
        frozen: all others.
        tokens: bytes of a frame's tokens as the language model reads them, in bf16.
    """

    tower: float
    prompter: float
    verdict: float
    answer: float
    trained: int
    frozen: int
    tokens: int

    @property
    def seen(self) -> float:
        """A frame watched: tower and the Localizer's Q-Former."""
        return self.tower + self.prompter

    @property
    def refined(self) -> float:
        """A video of a self-refinement step.

        The frozen Answerer reads each frame alone. The Localizer is run forwards and backwards: through the language
        model's frozen weights at the cost of another forward pass, through its own at that of two.
        """
        return _FRAMES * (self.tower + 4 * self.prompter + 3 * self.verdict)


@torch.inference_mode()
def costs_of(size: str) -> Costs:
    """Count a size's operations and parameters; no weights are needed."""
    config = read_config(size)
    parts: Any = build_on_meta(config)
    model, width = parts["language"].model, parts["language"].model.config.d_model
    pixels = torch.zeros(1, 3, config.vision.image_size, config.vision.image_size, device="meta")
    features = parts["vision"](pixels)
    queries = parts["localizer"](features).shape[1]

    def language(tokens: int) -> float:
        embeds = torch.zeros(1, tokens, width, device="meta")
        start = torch.zeros(1, 1, dtype=torch.long, device="meta")
        return _count(lambda: model(inputs_embeds=embeds, decoder_input_ids=start, use_cache=False))

    prompter = _count(lambda: parts["localizer"](features))
    trained = _parameters(parts["localizer"])
    return Costs(
        tower=_count(lambda: parts["vision"](pixels)),
        prompter=prompter,
        verdict=language(queries + _TEXT),
        answer=language(_KEYFRAMES * (queries + _PREFIX) + _TEXT) + _KEYFRAMES * prompter,
        trained=trained,
        frozen=_parameters(parts) - trained,
        tokens=queries * width * 2,
    )


def _count(work: Callable[[], Any]) -> float:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _parameters(module: torch.nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def corpus_lines(costs: Costs) -> Iterator[str]:
    """The table of 100,000 hours of video at one frame a second."""
    frames = HOURS * 3600
    yield "| of 100,000 hours at 1 frame a second | in all | on one machine of 8 GPUs | on 1,000 of them |"
    yield "|:---|---:|---:|---:|"
    gpu = {"watching every frame once": costs.seen, "scoring every frame for one question": costs.verdict}
    for name, flop in gpu.items():
        hours = frames * flop / RATE / 3600
        yield f"| {name} | {hours:,.0f} GPU hours | {hours / 8 / 24:.1f} days | {hours / 8000 * 60:.1f} minutes |"
    hours = HOURS * _DECODE_S / 3600
    by_cores = f"{hours / 64:,.0f} hours, 64 cores | {hours / 64000 * 60:.1f} minutes"
    yield f"| decoding, by {_DECODE_S} s an hour as measured | {hours:,.0f} core hours | {by_cores} |"
    kept = {"the Localizer's tokens of every frame, bf16": costs.tokens, "a vector of 512 of every frame, fp16": 1024}
    for name, size in kept.items():
        yield f"| keeping {name} | {frames * size / 1e12:,.2f} TB | | |"
    yield f"| one answer about one video, from 4 keyframes | {costs.answer / RATE * 1000:.1f} ms | | |"


def training_lines(costs: Costs) -> Iterator[str]:
    """The table of a step of self-refinement, 64 videos of 4 frames, on more and more GPUs."""
    size = 4 * costs.trained
    exchanging = f"exchanging {size / 1e6:.0f} MB at 10 Gbit/s | at 400 Gbit/s"
    yield f"| GPUs | videos each | computing | {exchanging} | computing, of the step, at 400 Gbit/s |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for gpus in (1, 4, 16, 64):
        computing = _BATCH / gpus * costs.refined / RATE
        slow, fast = (2 * (gpus - 1) / gpus * size / _LINKS[link] for link in ("10 Gbit/s", "400 Gbit/s"))
        share = computing / (computing + fast)
        yield f"| {gpus} | {_BATCH // gpus} | {computing:.2f} s | {slow:.2f} s | {fast:.3f} s | {share:.0%} |"


def split_lines(costs: Costs) -> Iterator[str]:
    """What a split model (FSDP2) gathers in each step, forwards and backwards."""
    size = 2 * 2 * costs.frozen
    times = ", ".join(f"{size / speed:.2f} s at {link}" for link, speed in _LINKS.items())
    yield f"Split, a step gathers {size / 1e9:.1f} GB of frozen weights in bf16, forwards and backwards: {times}."


def main() -> None:
    """Print the tables."""
    costs = costs_of("flant5xl")
    for lines in (corpus_lines, training_lines, split_lines):
        print(*lines(costs), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
