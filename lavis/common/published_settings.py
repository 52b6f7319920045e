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

_TYPE = "datasets.*.type"
# What has no meaning here, by the reason why; "*" stands for any one key.
_MEANINGLESS = {
    "every question brings its own options": ("model.answer_num",),
    "the visual prompters read no text, as published": ("model.qformer_input_text",),
    "the model's own size (model.model_type) decides": (
        *("model.image_size", "model.num_query_token", "model.t5_model", "model.vit_model", "model.max_txt_len"),
        "datasets.*.vis_processor.*.image_size",
    ),
    "model.dtype is the precision of all frozen parts": ("model.vit_precision",),
    "the vision tower is frozen, and drops nothing": ("model.drop_path_rate",),
    "model.model_type brings the weights to start from": ("model.pretrained", "model.load_pretrained"),
    "datasets.*.prompt words the questions": ("model.prompt",),
    "frames are prepared by datasets.*.vis_processor": ("preprocess",),
    "each dataset has one configuration": (_TYPE,),
    "questions are asked in full, as datasets.*.prompt words them": ("datasets.*.text_processor",),
    "training crops and the model's normalisation are fixed": tuple(
        f"datasets.*.vis_processor.*.{name}" for name in ("mean", "std", "min_scale", "max_scale")
    ),
    "annotations are not downloaded; storage is read": ("datasets.*.build_info.annotations.*.url",),
    "an answer is the option with the best score; no text is generated": (
        *("model.apply_lemmatizer", "run.max_len", "run.min_len", "run.num_beams", "run.inference_method"),
        *("run.num_ans_candidates", "run.prompt"),
    ),
    "figures are always reported": ("run.report_metric",),
    "torchrun says how many processes there are and where they meet": (
        *("run.world_size", "run.dist_url", "run.dist_backend", "run.rank", "run.gpu"),
    ),
    # One of the published files misspells it.
    "it follows from which parts train": ("run.find_unused_parameters", "run.ind_unused_parameters"),
    "every question is counted once, on any number of processes": ("run.use_dist_eval_sampler",),
    "an epoch is every sample once": ("run.iters_per_inner_epoch",),
}
_WITHOUT_MEANING = {name: why for why, names in _MEANINGLESS.items() for name in names}

_Path = tuple[Any, ...]
_Settings = dict[str, Any]

# Where the published scripts keep the files that the published recipes name by their address.
_CHECKPOINTS = "sevila_checkpoints"


def translated(settings: Mapping[str, Any], *, place: str) -> tuple[_Settings, list[str]]:
    """Return sections of settings in the words of this package, and a line for each that was translated or left out.

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


def _freeze_vit(value: Any) -> _Settings:
    if not _flag("model.freeze_vit", value):
        raise ConfigError("model.freeze_vit is false, but the vision tower is always frozen here; leave it out")
    return {}


def _data_type(value: Any) -> _Settings:
    if value != "videos":
        raise ConfigError(f"datasets.*.data_type is {value!r}; only videos can be read")
    return {}


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
    "model.load_finetuned": lambda value: {} if _flag("model.load_finetuned", value) else {"model.finetuned": None},
    "model.freeze_vit": _freeze_vit,
    "model.use_grad_checkpoint": lambda value: {
        "model.checkpointing": "torch" if _flag("model.use_grad_checkpoint", value) else "none"
    },
    "run.runner": lambda value: {"run.runner": "runner_base" if value == "runner_iter" else value},
    "run.output_dir": lambda value: {"run.output_dir": "output" if value == "" else value},
    "run.train_dataset_ratios": lambda value: {"run.mix": value},
    "run.warmup_lr": lambda value: {"run.warmup_lr": None if isinstance(value, (int, float)) and value < 0 else value},
    "datasets.*.data_type": _data_type,
    "run.distributed": lambda value: {"run.distributed": "ddp" if isinstance(value, bool) else value},
    "run.resume_ckpt_path": _resume,
}


def _walk(settings: Mapping[str, Any], above: _Path) -> Iterator[tuple[_Path, Any]]:
    """Yield every setting with its path: a published one whole, another mapping empty and then what it holds."""
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
