"""Real recipes made small: seven questions about three generated videos, and a tiny random model."""

import dataclasses
import json
import sys
from pathlib import Path

from lavis.common.files import configs_dir
from lavis.models.sevila.config import read_config
from lavis.models.sevila.model import SeViLA
from tests.videos import write_video

STAGES = {"pretrain": "pretrain/qvh", "refine": "refine/nextqa", "finetune": "finetune/nextqa"}
TRAINED = {"pretrain": "localizer", "refine": "localizer", "finetune": "answerer"}
# No stages of the chain: what chooses frames learns by the frozen Answerer.
SELECTORS = {name: f"selectors/{name}/nextqa" for name in ("atp", "differentiable_top_k")}
PLACES = {**STAGES, **SELECTORS}
NUM_SAMPLES = 7


def write_tiny_data(folder: Path) -> Path:
    """Write videos and annotations as `sevila prepare` lays them out."""
    for number in range(3):
        for dataset in ("nextqa", "qvh"):
            videos = folder / dataset / "videos"
            videos.mkdir(parents=True, exist_ok=True)
            write_video(videos / f"v{number}.mp4", num_frames=40)
    for split, count in (("train", NUM_SAMPLES), ("val", 5), ("test", 4)):
        _write(folder / "nextqa" / f"{split}.json", [_question(number) for number in range(count)])
        _write(folder / "qvh" / f"{split}.json", [_query(number) for number in range(count)])
    return folder


def write_tiny_model(folder: Path, *, dropout: float = 0.1) -> Path:
    """Save a model with random weights."""
    config = read_config("tiny")
    config = dataclasses.replace(config, prompter={**config.prompter, "dropout": dropout})
    SeViLA.untrained(config).save_pretrained(folder)
    return folder


def recipe(stage: str) -> Path:
    """The recipe of a stage or a selector, as users start it."""
    return configs_dir() / "sevila" / f"{PLACES[stage]}.yaml"


def options(stage: str, *, data: Path, model: Path, output: Path | None = None, **run: object) -> list[str]:
    """Settings that make the recipe of a stage small; `run` are settings of its run section."""
    name = Path(PLACES[stage]).name
    small = {
        **({"output_dir": output} if output else {}),
        "device": "cpu",
        "max_epoch": 2,
        "batch_size_train": 2,
        "batch_size_eval": 2,
        "accum_grad_iters": 1,
        "num_workers": 0,
        "warmup_steps": 0,
        "init_lr": 1e-3,
        "amp": "false",
        "log_freq": 1,
        **run,
    }
    paths = {split: f"{data}/{name}/{split}.json" for split in ("train", "val", "test")}
    return [
        f"model.model_type={model}",
        "model.dtype=fp32",
        "model.frame_num=2",
        f"datasets.{name}.vis_processor.train.n_frms=4",
        f"datasets.{name}.vis_processor.eval.n_frms=4",
        f"datasets.{name}.build_info.videos.storage={data}/{name}/videos",
        *(f"datasets.{name}.build_info.annotations.{split}.storage={path}" for split, path in paths.items()),
        *(f"run.{key}={value}" for key, value in small.items()),
    ]


def torchrun(processes: int) -> list[str]:
    """The start of a command line that runs a script on several processes of this machine."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]


def _question(number: int) -> dict[str, object]:
    texts = {"a0": "red", "a1": "green", "a2": "blue"}
    video = f"v{number % 3}"
    return {"video": video, "qid": f"CW_{number}", "question": "What is it", "answer": number % 3, **texts}


def _query(number: int) -> dict[str, object]:
    windows = [[0.2, 0.8]]
    return {"video": f"v{number % 3}", "qid": f"QVHighlight_{number}", "query": "a cat", "relevant_windows": windows}


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text(json.dumps(rows))
