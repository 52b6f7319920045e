"""The paper in miniature through a decoder-only model: base, the three stages with LoRA, and the table.

`python -m sevila_data.miniature.decoder_experiment --output output/miniature_decoder`
`    --table benchmarks/MINIATURE_DECODER.md`

Data, questions, recipes and measures are those of `experiment`; what is finished in the output folder is not made
again. It needs the extra `vlm`.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lavis.common.distributed import World
from lavis.common.files import configs_dir, write_text
from lavis.models.base import VideoModel
from lavis.models.hf.model import HFModel
from lavis.runners.build import build_runner
from lavis.runners.config import load_train_config
from sevila_data.miniature.dataset import write_dataset
from sevila_data.miniature.decoder import join, learn_language, learn_vision
from sevila_data.miniature.experiment import once, seconds_in, start_worker
from sevila_data.miniature.figures import Measured, render_table, summarise
from sevila_data.miniature.measure import LOCALIZERS, HeldOut, localize, measure_run, measure_so_far
from sevila_data.miniature.render import DAY
from sevila_data.miniature.stages import STAGES

_BASE_SEED = 0
_LORA = {"model.lora.rank": 16, "model.lora.alpha": 32, "run.init_lr": 1e-3, "run.warmup_steps": 5}
_STEPS = (3500, 2000, 1500)
_STAGE_STEPS = 240
_HEAD = """# The paper in miniature, through a decoder-only model

Written by `python -m sevila_data.miniature.decoder_experiment` ({videos} test videos, {questions} questions of
{options} options, so chance is {chance:.0f} %). Accuracy in percent, averaged over the stages' seeds ({seeds}), with
95 % intervals bootstrapped over videos. Videos, questions, recipes and measures are those of MINIATURE.md; the model
is an Idefics3 of two million parameters (a vision tower of 3 layers, one image token for each picture, a Llama of 5
layers), loaded, asked and trained as any image-text model of transformers is.

The base is trained from nothing: the vision tower from dense labels of what is where in a picture, the language model
to read chat prompts with words in place of frames, then language model and connector together from real pictures.
It is taught captions, whether a plain sentence is true of a frame ("Is a red star shown?"), and open and
multiple-choice questions over one to eight frames of which one or more hold the fact. Hints that are thrown away tell
some attention heads where to look in such a question: at what it names, at the frames that show that, at the right
option. So the base is told which frames hold the fact where it answers, but no prompt of the Localizer is used before
the stages, nor "yes" or "no" to whether a frame helps.
{told}

{remark}
"""
_STAGES = """These train a LoRA adapter of rank {rank} for each role and nothing else; "untrained" is the base asked
in words. Unless a line says otherwise, answers come from the Answerer that was tuned on localized frames, reading four
of {frames} frames."""
_SO_FAR = """These train a LoRA adapter of rank {rank} for each role and nothing else; "untrained" is the base asked
in words. Not all of them were trained here: the base answers, from four of {frames} frames unless a line says
otherwise."""


@dataclass(frozen=True)
class Steps:
    """How long each part learns, in optimizer steps.

    Attributes:
        videos: base videos whose frames are seen.
        stages: each of them; the miniature's recipes, which are SeViLA's, take 30 to 80.
    """

    language: int = _STEPS[0]
    vision: int = _STEPS[1]
    joined: int = _STEPS[2]
    videos: int = 300
    stages: int = _STAGE_STEPS


class DecoderRun:
    """The stages of one seed, in their folder; arguments as for `stages.Run`."""

    def __init__(self, experiment: Path, *, seed: int) -> None:
        self.data, self.base, self.base_folder, self.seed = experiment / "data", 0, experiment, seed
        self.folder = experiment / f"seed_{seed}"

    def model(self, *stages: str) -> VideoModel:
        """Load the base with the adapters of stages."""
        model = HFModel.from_pretrained(self.base_folder / "base")
        for stage in stages:
            model.load_partial(self.folder / stage / "best")
        return model.eval()

    def train(self, name: str, *, steps: int) -> None:
        """Train one stage by the miniature's recipe, with adapters."""
        recipe, before, options = STAGES[name]
        given = [
            *options,
            *(f"{setting}={value}" for setting, value in _LORA.items()),
            f"run.max_iters={steps}",
            f"model.model_type={self.base_folder / 'base'}",
            f"model.finetuned={self.folder / before / 'best' if before else 'null'}",
            f"run.output_dir={self.folder / name}",
            f"run.seed={self.seed}",
        ]
        path = configs_dir() / "sevila" / "miniature" / f"{recipe}.yaml"
        build_runner(load_train_config(path, options=given), World()).run()


def make_data(experiment: Path) -> None:
    """Make the data set."""
    data = experiment / "data"
    once(experiment, "data", data / "moments/test.json", lambda: write_dataset(data, seed=_BASE_SEED, light=DAY))


def make_language(experiment: Path, steps: Steps) -> None:
    """Make the language model."""
    folder = experiment / "language"
    learn = partial(learn_language, folder, seed=_BASE_SEED, num_steps=steps.language)
    once(experiment, "language", folder / "processor_config.json", learn)


def make_vision(experiment: Path, steps: Steps) -> None:
    """Make the data and the vision tower."""
    make_data(experiment)
    folder = experiment / "vision"
    videos = {"seed": _BASE_SEED, "num_videos": steps.videos}
    learn = partial(learn_vision, folder, experiment / "data", **videos, num_steps=steps.vision)
    once(experiment, "vision", folder / "processor_config.json", learn)


def join_base(experiment: Path, steps: Steps) -> None:
    """Join both to the base."""
    folder = experiment / "base"
    parts = (experiment / "data", experiment / "language", experiment / "vision")
    learn = partial(join, folder, *parts, seed=_BASE_SEED, num_videos=steps.videos, num_steps=steps.joined)
    once(experiment, "base", folder / "processor_config.json", learn)


def train_stages(experiment: Path, seed: int, names: Sequence[str], steps: Steps) -> None:
    """Train stages of one seed, one after another."""
    run = DecoderRun(experiment, seed=seed)
    for name in names:
        learn = partial(run.train, name, steps=steps.stages)
        once(run.folder, name, run.folder / name / "best/model.safetensors", learn)


def localize_one(experiment: Path, seed: int, name: str, max_videos: int | None) -> None:
    """Let one Localizer score all frames; `measure` reads what it found."""
    localize(DecoderRun(experiment, seed=seed), HeldOut(experiment / "data", max_videos=max_videos), name)


def measure(experiment: Path, seed: int, max_videos: int | None) -> Measured:
    """Measure the stages of one seed."""
    run = DecoderRun(experiment, seed=seed)
    file = run.folder / "figures.json"
    once(run.folder, "measure", file, lambda: measure_run(run, max_videos=max_videos).save(file))
    return Measured.load(file)


def run_all(
    experiment: Path, seeds: Sequence[int], *, workers: int, max_videos: int | None, steps: Steps, stages: Sequence[str]
) -> list[Measured]:
    """Make everything that is not there yet, and return what each seed's models reach.

    Args:
        stages: those to train; without all of them only the choice of frames is measured.
    """
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh, initializer=start_worker, initargs=(experiment,)) as pool:
        for halves in [pool.submit(make_language, experiment, steps), pool.submit(make_vision, experiment, steps)]:
            halves.result()
        pool.submit(join_base, experiment, steps).result()
        if set(stages) != set(STAGES):
            pool.submit(train_stages, experiment, seeds[0], stages, steps).result()
            run = DecoderRun(experiment, seed=seeds[0])
            return [pool.submit(measure_so_far, run, max_videos=max_videos).result()]
        chains = (("pretrain", "refine", "finetune"), ("refine_only", "finetune_random"))
        for trained in [
            pool.submit(train_stages, experiment, seed, names, steps) for seed in seeds for names in chains
        ]:
            trained.result()
        names = [(seed, name) for seed in seeds for name, over in LOCALIZERS.items() if over or seed == seeds[0]]
        for found in [pool.submit(localize_one, experiment, seed, name, max_videos) for seed, name in names]:
            found.result()
        measured = [pool.submit(measure, experiment, seed, max_videos) for seed in seeds]
        return [figures.result() for figures in measured]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment, write its figures and, if asked, the table."""
    parser = argparse.ArgumentParser(description="Run the paper in miniature through a decoder-only model.")
    parser.add_argument("--output", type=Path, default=Path("output/miniature_decoder"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the stages; the base is shared")
    parser.add_argument("--steps", type=int, nargs=3, default=list(_STEPS), help="of language, vision and both joined")
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=list(STAGES), help="all by default")
    parser.add_argument("--stage-steps", type=int, default=_STAGE_STEPS, help="of each stage")
    parser.add_argument("--workers", type=int, default=2, help="parts made side by side, each on one core")
    parser.add_argument("--table", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--remark", default="", help="a sentence for the table about how this run was made")
    parser.add_argument("--test-videos", type=int, help="measure on so many of the test videos; all by default")
    given = parser.parse_args(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    language, vision, joined = given.steps
    steps = Steps(language=language, vision=vision, joined=joined, stages=given.stage_steps)
    measured = run_all(
        given.output, given.seeds, workers=given.workers, max_videos=given.test_videos, steps=steps, stages=given.stages
    )
    figures = summarise(measured)
    runs = [DecoderRun(given.output, seed=seed) for seed in given.seeds]
    seconds = {"shared": seconds_in(given.output), "seeds": [seconds_in(run.folder) for run in runs]}
    figures |= {"seeds": given.seeds, "seconds": seconds, "remark": given.remark}
    write_text(given.output / "figures.json", json.dumps(figures, indent=2) + "\n")
    if given.table:
        head = _HEAD.replace("{told}", _STAGES if figures["answerers"] else _SO_FAR)
        head = head.replace("{rank}", str(_LORA["model.lora.rank"]))
        write_text(given.table, render_table(figures, head=head))
    return 0


if __name__ == "__main__":
    sys.exit(main())
