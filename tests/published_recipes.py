"""Recipes of our own in the words of the published repository: the same keys, with other values and another layout."""

import json
from typing import Any

TRAINED = ("nextqa", "star", "how2qa", "tvqa", "vlep", "qvh")
ADDRESS = "https://example.org/weights/sevila_pretrained.pth"

_MODEL = {
    "arch": "sevila",
    "model_type": "pretrain_flant5xl",
    "load_finetuned": True,
    "finetuned": ADDRESS,
    "use_grad_checkpoint": False,
    "freeze_vit": True,
    "frame_num": 2,
    "answer_num": 3,
}
_LOOP = {
    "lr_sched": "linear_warmup_cosine_lr",
    "init_lr": 2e-5,
    "min_lr": 0,
    "warmup_lr": 1e-7,
    "warmup_steps": 3,
    "weight_decay": 0.01,
    "max_epoch": 2,
    "batch_size_train": 4,
    "accum_grad_iters": 1,
    "amp": True,
    "resume_ckpt_path": None,
    "train_splits": ["train"],
    "valid_splits": ["val"],
}
_ANYWHERE = {
    "batch_size_eval": 4,
    "num_workers": 1,
    "max_len": 20,
    "min_len": 2,
    "num_beams": 3,
    "seed": 7,
    "output_dir": "",
    "evaluate": False,
    "test_splits": ["val"],
    "device": "cuda",
    "world_size": 1,
    "dist_url": "env://",
    "distributed": True,
    "find_unused_parameters": True,
}
_TEXT = {"name": "blip_question", "max_words": 40}


def training_recipe(name: str) -> str:
    """A recipe as the published repository has one to train on each benchmark."""
    frames = {"n_frms": 4, "image_size": 224}
    return _yaml(
        _model(name, task="train_loc_freeze_qa_vid"),
        name,
        vis_processor={"train": {"name": "blip2_video_train", **frames}, "eval": {"name": "blip_video_eval", **frames}},
        text_processor={"train": _TEXT, "eval": _TEXT},
        run={**_LOOP, **_ANYWHERE},
    )


def evaluation_recipe(name: str) -> str:
    """A recipe as the published repository has one to evaluate on each benchmark."""
    run: dict[str, Any] = {**_LOOP, **_ANYWHERE}
    if name == "qvh":
        run = {**_ANYWHERE, "batch_size_train": 4, "inference_method": "generate", "ind_unused_parameters": False}
        run.pop("find_unused_parameters")
    return _yaml(
        {**_model(name, task="freeze_qa_vid"), "qformer_input_text": False},
        name,
        vis_processor={"eval": {"name": "blip_video_eval", "n_frms": 4, "image_size": 224}},
        text_processor={"eval": _TEXT},
        run=run,
    )


def _model(name: str, *, task: str) -> dict[str, Any]:
    if name != "qvh":
        return {**_MODEL, "task": task}
    kept = ("model_type", "load_finetuned", "finetuned", "use_grad_checkpoint", "freeze_vit")
    return {"arch": "blip2_fmr", **{key: _MODEL[key] for key in kept}}


def _yaml(model: dict[str, Any], name: str, *, run: dict[str, Any], **dataset: Any) -> str:
    task = "moment_retrieval" if name == "qvh" else "videoqa"
    # Every JSON document is a YAML one.
    return json.dumps({"model": model, "datasets": {name: dataset}, "run": {"task": task, **run}}, indent=2) + "\n"
