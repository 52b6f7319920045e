"""One side of the training benchmark: a model, its batch and its optimizer step."""

import dataclasses
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.fixtures import as_published, model_of, questions
from benchmarks.measure import Measured, by_turns, peak_bytes, profiled, reset_peak, set_threads
from benchmarks.published_step import PublishedStep
from lavis.common.distributed import World
from lavis.datasets.dataset import ClipBatch
from lavis.models.language.checkpointing import checkpoint_activations
from lavis.models.precision import at_least_fp32
from lavis.models.sevila.loading import set_precision
from lavis.models.sevila.model import SeViLA
from lavis.runners.optim import Parallel, build_adamw
from lavis.runners.trainer import StepReport, Updater
from lavis.tasks.build import build_objective, resolve_task
from lavis.tasks.objectives import Objective

_RATE = 1e-6
_SEED = 0
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
PROFILED_ROWS = 15


@dataclass(frozen=True, kw_only=True)
class SideOptions:
    """What one side runs; plain data that another process can be started with.

    Attributes:
        side: "published" or "ours".
        task: "self_refinement" or "answerer_finetuning".
        amp: precision of autocast, or None.
        checkpointing: as `model.checkpointing`, on our side.
    """

    side: str
    task: str
    size: str
    dtype: str
    device: str
    threads: int | None
    amp: str | None
    checkpointing: str
    batch_size: int
    num_frames: int
    num_keyframes: int


@dataclass(frozen=True)
class FirstStep:
    """What the first step computed, without dropout, and what there was before it.

    Attributes:
        gradient_norm: of all gradients of the role that learns.
        idle_bytes: memory with the model loaded, as `peak_bytes` counts it.
        weight_bytes: of all weights.
    """

    loss: float
    gradient_norm: float
    idle_bytes: int
    weight_bytes: int


class Step(Protocol):
    """One optimizer step."""

    def backward(self, batch: ClipBatch) -> float:
        """Compute gradients; return the loss."""
        ...

    def apply(self) -> None:
        """Change the weights by the gradients, and forget them."""
        ...


class OurStep:
    """Runs steps as `sevila train` does, in one process."""

    def __init__(self, model: SeViLA, options: SideOptions) -> None:
        for part in (model.language, model.localizer, model.answerer):
            checkpoint_activations(part, method=options.checkpointing)
        objective = ready_to_train(model, options.task, num_keyframes=options.num_keyframes)
        self._updater = Updater(
            Parallel(model, World(device=model.device)),
            objective,
            build_adamw(model.trainable_parameters(), lr=_RATE),
            world=World(device=model.device),
            autocast_dtype=_DTYPES.get(options.amp or ""),
        )
        self._report = StepReport(0, {})

    def backward(self, batch: ClipBatch) -> float:
        """Compute gradients; return the loss."""
        self._report = self._updater.accumulate([batch])
        return self._report.metrics["loss"]

    def apply(self) -> None:
        """Change the weights."""
        self._updater.apply(self._report, rate=_RATE)


class Side:
    """One side, ready to run steps on one batch of noise over and over."""

    def __init__(self, options: SideOptions) -> None:
        set_threads(options.threads)
        torch.manual_seed(_SEED)
        self._device = torch.device(options.device)
        self._role = "localizer" if options.task == "self_refinement" else "answerer"
        self._model = self._load(options)
        self._batch = noise_batch(
            self._model, size=options.size, batch_size=options.batch_size, num_frames=options.num_frames, seed=_SEED
        )
        self._weight_bytes = sum(weight.nbytes for weight in self._model.parameters())
        gc.collect()
        reset_peak(self._device)
        self._idle_bytes = peak_bytes(self._device)
        self._step: Step = OurStep(self._model, options) if options.side == "ours" else self._published(options)

    def _load(self, options: SideOptions) -> SeViLA:
        # Both precisions are rounded from the same weights.
        model = model_of(options.size, dtype="fp32", device=self._device)
        model = model if options.side == "ours" else as_published(model, attention="eager")
        set_precision(model, options.dtype)
        return model

    def _published(self, options: SideOptions) -> PublishedStep:
        autocast = _DTYPES.get(options.amp or "")
        return PublishedStep(
            self._model, task=options.task, num_keyframes=options.num_keyframes, lr=_RATE, autocast=autocast
        )

    def first(self) -> FirstStep:
        """Run a step without dropout, which also warms up and lets the optimizer take its memory."""
        modes = {module: module.training for module in self._model.modules()}
        self._model.eval()
        loss = self._step.backward(self._batch)
        norms = [
            parameter.grad.norm()
            for parameter in self._model.get_submodule(self._role).parameters()
            if parameter.grad is not None
        ]
        norm = float(torch.stack(norms).norm())
        self._step.apply()
        for module, mode in modes.items():
            module.training = mode
        return FirstStep(loss, norm, self._idle_bytes, self._weight_bytes)

    def measure(self) -> Measured:
        """Run one step, dropout included."""
        measured = by_turns({"step": self._run}, repeats=1, device=self._device, warmup={})["step"]
        return dataclasses.replace(measured, last=None)

    def profile(self, path: Path) -> str:
        """Trace one step to a file; return a table of what took longest."""
        with profiled(path) as trace:
            self._run()
        by = "self_cuda_time_total" if self._device.type == "cuda" else "self_cpu_time_total"
        table: str = trace.key_averages().table(sort_by=by, row_limit=PROFILED_ROWS, max_name_column_width=60)
        return table

    def _run(self) -> Any:
        self._step.backward(self._batch)
        self._step.apply()


def ready_to_train(model: SeViLA, task: str, *, num_keyframes: int) -> Objective:
    """Let the parts of a task train, in fp32 or more as `sevila train` has them, and return its objective."""
    objective = build_objective(resolve_task(task), prompt="multiple_choice", num_keyframes=num_keyframes)
    model.set_trainable(objective.trainable)
    for _, parameter in model.trainable_parameters():
        parameter.data = parameter.data.to(at_least_fp32(parameter.dtype))
    model.train()
    return objective


def noise_batch(model: SeViLA, *, size: str, batch_size: int, num_frames: int, seed: int) -> ClipBatch:
    """Return a batch of noise [B, T, 3, H, W] with questions and answers."""
    noise = torch.Generator().manual_seed(seed)
    pixels = torch.randn(batch_size, num_frames, 3, model.image_size, model.image_size, generator=noise)
    return ClipBatch(
        pixels=pixels.to(model.device),
        times_s=torch.zeros(batch_size, num_frames),
        frame_idx=torch.arange(num_frames).expand(batch_size, -1),
        questions=tuple(
            dataclasses.replace(question, answer=number % len(question.options))
            for number, question in enumerate(questions(batch_size, size=size))
        ),
    )
