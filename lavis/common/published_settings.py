"""Settings of the published repository (LAVIS' spelling), in files and options, translated to those of this package.

People have recipes and launch commands of the published code. What has a counterpart becomes it, what has no meaning
here is left out, and both are said. A key that neither of the two knows passes, to be refused as an unknown one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from lavis.common.errors import ConfigError
from lavis.common.registry import registry

_SIZE = "the model's own size (model.model_type) decides"
_LAUNCHER = "torchrun says how many processes there are and where they meet"
_TYPE = "datasets.*.type"
_SCORED = "an answer is the option with the best score; no text is generated"
_AUGMENTED = "training crops and the model's normalisation are fixed"

# What has no meaning here, and why; "*" stands for any one key.
_WITHOUT_MEANING: dict[str, str] = {
    "model.answer_num": "every question brings its own options",
    "model.qformer_input_text": "the visual prompters read no text, as published",
    "model.image_size": _SIZE,
    "model.num_query_token": _SIZE,
    "model.t5_model": _SIZE,
    "model.vit_model": _SIZE,
    "model.max_txt_len": _SIZE,
    "model.vit_precision": "model.dtype is the precision of all frozen parts",
    "model.drop_path_rate": "the vision tower is frozen, and drops nothing",
    "model.pretrained": "model.model_type brings the weights to start from",
    "model.load_pretrained": "model.model_type brings the weights to start from",
    "model.prompt": "datasets.*.prompt words the questions",
    "model.apply_lemmatizer": _SCORED,
    "preprocess": "frames are prepared by datasets.*.vis_processor",
    _TYPE: "each dataset has one configuration",
    "datasets.*.text_processor": "questions are asked in full, as datasets.*.prompt words them",
    "datasets.*.vis_processor.*.image_size": _SIZE,
    "datasets.*.vis_processor.*.mean": _AUGMENTED,
    "datasets.*.vis_processor.*.std": _AUGMENTED,
    "datasets.*.vis_processor.*.min_scale": _AUGMENTED,
    "datasets.*.vis_processor.*.max_scale": _AUGMENTED,
    "datasets.*.build_info.annotations.*.url": "annotations are not downloaded; storage is read",
    "run.max_len": _SCORED,
    "run.min_len": _SCORED,
    "run.num_beams": _SCORED,
    "run.inference_method": _SCORED,
    "run.num_ans_candidates": _SCORED,
    "run.prompt": _SCORED,
    "run.report_metric": "figures are always reported",
    "run.world_size": _LAUNCHER,
    "run.dist_url": _LAUNCHER,
    "run.dist_backend": _LAUNCHER,
    "run.rank": _LAUNCHER,
    "run.gpu": _LAUNCHER,
    "run.find_unused_parameters": "it follows from which parts train",
    # As one of the published files misspells it.
    "run.ind_unused_parameters": "it follows from which parts train",
    "run.use_dist_eval_sampler": "every question is counted once, on any number of processes",
    "run.iters_per_inner_epoch": "an epoch is every sample once",
}


_Path = tuple[Any, ...]
_Settings = dict[str, Any]

# Where the published scripts keep the files that the published recipes name by their address.
_CHECKPOINTS = "sevila_checkpoints"


def translated(settings: Mapping[str, Any], *, place: str) -> tuple[_Settings, list[str]]:
    """Return settings in the words of this package, and lines that name each one that was translated or left out.

    Args:
        settings: whole sections, as a file or dotted options give them.
        place: where they come from, for the lines.

    Raises:
        ConfigError: a published setting asks for what this package cannot do.
    """
    own: _Settings = {}
    published: list[tuple[str, str, Any]] = []
    meaningless: dict[str, list[str]] = {}
    for path, value in _walk(settings, ()):
        name, pattern = ".".join(map(str, path)), _pattern(path)
        if pattern is None or (pattern == _TYPE and _is_builder(path[1], value)):
            _put(own, path, value)
        elif pattern in _WITHOUT_MEANING:
            meaningless.setdefault(_WITHOUT_MEANING[pattern], []).append(name)
        else:
            published.append((pattern, name, value))
    remarks = [f"{', '.join(names)}: no meaning here, as {why}" for why, names in meaningless.items()]
    for pattern, name, value in sorted(published, key=lambda entry: list(_TRANSLATED).index(entry[0])):
        counterparts = _TRANSLATED[pattern](value)
        for counterpart, meant in counterparts.items():
            _put(own, tuple(counterpart.split(".")), meant)
        if counterparts != {name: value}:
            said = ", ".join(f"{key}={_shown(meant)}" for key, meant in counterparts.items())
            remarks.append(f"{name}={_shown(value)} -> {said or 'left out: it is so here'}")
    if remarks and isinstance(own.get("run"), dict) and own["run"].get("device") == "cuda":
        # All published files say so, as the only device they know.
        own["run"]["device"] = None
        remarks.append("run.device=cuda -> run.device=null (CUDA where there is one)")
    return own, [f"{place}: {remark}" for remark in remarks]


def _is_builder(dataset: Any, kind: Any) -> bool:
    """Say whether a dataset's type names its builder, as a recipe's own datasets do; published ones name a variant."""
    if dataset not in registry.builders:
        registry.builders.get(str(kind))
    return str(kind) in registry.builders


def _model_type(value: Any) -> _Settings:
    is_published = value in ("pretrain_flant5xl", "pretrain_flant5xxl")
    return {"model.model_type": value.removeprefix("pretrain_") if is_published else value}


def _finetuned(value: Any) -> _Settings:
    if isinstance(value, str) and value.startswith(("https://", "http://")):
        value = f"{_CHECKPOINTS}/{PurePosixPath(value).name}"
    return {"model.finetuned": value or None}


def _load_finetuned(value: Any) -> _Settings:
    return {} if _flag("model.load_finetuned", value) else {"model.finetuned": None}


def _freeze_vit(value: Any) -> _Settings:
    if not _flag("model.freeze_vit", value):
        raise ConfigError("model.freeze_vit is false, but the vision tower is always frozen here; leave it out")
    return {}


def _checkpointing(value: Any) -> _Settings:
    return {"model.checkpointing": "torch" if _flag("model.use_grad_checkpoint", value) else "none"}


def _data_type(value: Any) -> _Settings:
    if value != "videos":
        raise ConfigError(f"datasets.*.data_type is {value!r}; only videos can be read")
    return {}


def _distributed(value: Any) -> _Settings:
    return {"run.distributed": "ddp" if isinstance(value, bool) else value}


def _resume(value: Any) -> _Settings:
    if value:
        raise ConfigError(
            f"run.resume_ckpt_path is {value!r}: the optimizer of a published checkpoint cannot go on here; start from "
            "its weights with model.finetuned=FILE, or go on with a run of this package with run.resume=auto"
        )
    return {}


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be true or false")
    return value


# In this order, a later one wins over an earlier one: what is not to be loaded is not.
_TRANSLATED: dict[str, Callable[[Any], _Settings]] = {
    "model.model_type": _model_type,
    "model.finetuned": _finetuned,
    "model.load_finetuned": _load_finetuned,
    "model.freeze_vit": _freeze_vit,
    "model.use_grad_checkpoint": _checkpointing,
    "run.runner": lambda value: {"run.runner": "runner_base" if value == "runner_iter" else value},
    "run.output_dir": lambda value: {"run.output_dir": "output" if value == "" else value},
    "run.train_dataset_ratios": lambda value: {"run.mix": value},
    "run.warmup_lr": lambda value: {"run.warmup_lr": None if isinstance(value, (int, float)) and value < 0 else value},
    "datasets.*.data_type": _data_type,
    "run.distributed": _distributed,
    "run.resume_ckpt_path": _resume,
}


def _walk(settings: Mapping[str, Any], above: _Path) -> Iterator[tuple[_Path, Any]]:
    """Yield what can be translated as a whole, and otherwise each mapping, empty, before what it holds."""
    for key, value in settings.items():
        path = (*above, key)
        if isinstance(value, Mapping) and value and _pattern(path) is None:
            yield path, {}
            yield from _walk(value, path)
        else:
            yield path, value


def _pattern(path: _Path) -> str | None:
    """Return the table's name for a published setting; None for any other."""
    for pattern in _PATTERNS:
        if len(pattern) == len(path) and all(want in ("*", key) for want, key in zip(pattern, path, strict=True)):
            return ".".join(pattern)
    return None


_PATTERNS = [tuple(name.split(".")) for name in (*_WITHOUT_MEANING, *_TRANSLATED)]


def _put(settings: _Settings, path: _Path, value: Any) -> None:
    *sections, key = path
    for section in sections:
        settings = settings.setdefault(section, {})
    settings[key] = value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, default=str)
