"""What people have from the published repository is understood, and said to be."""

from pathlib import Path
from typing import Any

import pytest

from lavis.common.errors import ConfigError
from lavis.common.published_settings import translated
from lavis.runners.config import TrainConfig, load_evaluation_config, load_train_config
from tests.published_recipes import ADDRESS, TRAINED, evaluation_recipe, training_recipe


def written(text: str, folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def said(config: TrainConfig) -> str:
    return "\n".join(config.remarks)


@pytest.mark.parametrize("name", TRAINED)
def test_a_published_training_recipe_is_understood(name: str, tmp_path: Path) -> None:
    path = written(training_recipe(name), tmp_path)
    config = load_train_config(path)
    assert (config.dataset_name, config.model.model_type, config.model.checkpointing) == (name, "flant5xl", "none")
    assert config.model.finetuned == "sevila_checkpoints/sevila_pretrained.pth"
    assert (config.run.seed, config.run.init_lr, config.run.warmup_lr, config.run.weight_decay) == (7, 2e-5, 1e-7, 0.01)
    assert (config.run.distributed, config.run.device, config.run.output_dir) == ("ddp", None, "output")
    assert (config.run.resume, config.run.amp, config.run.test_splits) == ("never", True, ("val",))
    assert config.dataset.vis_processor.train.n_frms == 4
    for line in (
        f"{path}: model.model_type=pretrain_flant5xl -> model.model_type=flant5xl",
        f"{path}: model.finetuned={ADDRESS} -> model.finetuned=sevila_checkpoints/sevila_pretrained.pth",
        f"{path}: run.max_len, run.min_len, run.num_beams: no meaning here, as an answer is the option with the best",
        f"{path}: run.world_size, run.dist_url: no meaning here, as torchrun says how many",
        f"{path}: run.device=cuda -> run.device=null",
    ):
        assert line in said(config)
    assert "init_lr" not in said(config)


@pytest.mark.parametrize("name", TRAINED)
def test_a_published_evaluation_recipe_is_understood(name: str, tmp_path: Path) -> None:
    config = load_evaluation_config(written(evaluation_recipe(name), tmp_path))
    assert (config.base.dataset_name, config.split, config.base.run.resume) == (name, "val", "auto")
    assert config.base.dataset.vis_processor.eval.n_frms == 4
    assert f"datasets.{name}.text_processor: no meaning here, as questions are asked in full" in said(config.base)


def test_published_settings_are_understood_as_options_and_win_over_the_recipe(tmp_path: Path) -> None:
    options = ["model.use_grad_checkpoint=True", "model.model_type=tiny", "run.world_size=4", "run.num_beams=1",
               "datasets.star.vis_processor.eval.image_size=224"]  # fmt: skip
    config = load_train_config(written(training_recipe("star"), tmp_path), options=options)
    assert (config.model.checkpointing, config.model.model_type) == ("torch", "tiny")
    assert "--options: model.use_grad_checkpoint=true -> model.checkpointing=torch" in config.remarks


def test_our_own_options_win_over_published_settings_of_the_recipe(tmp_path: Path) -> None:
    options = ["model.finetuned=mine.pth", "model.checkpointing=torch", "run.device=cpu", "run.output_dir=mine"]
    config = load_train_config(written(training_recipe("star"), tmp_path), options=options)
    assert (config.model.finetuned, config.model.checkpointing) == ("mine.pth", "torch")
    assert (config.run.device, config.run.output_dir) == ("cpu", "mine")


def test_the_same_setting_of_several_datasets_is_said_of_each(tmp_path: Path) -> None:
    text = (
        "datasets: {nextqa: {data_type: videos}, star: {data_type: videos}}\n"
        "run: {train_dataset_ratios: {nextqa: 2, star: 1}}\n"
    )
    config = load_train_config(written(text, tmp_path))
    assert config.run.mix == {"nextqa": 2, "star": 1}
    assert [remark.partition(": ")[2] for remark in config.remarks] == [
        'run.train_dataset_ratios={"nextqa": 2, "star": 1} -> run.mix={"nextqa": 2, "star": 1}',
        "datasets.nextqa.data_type=videos -> left out: it is so here",
        "datasets.star.data_type=videos -> left out: it is so here",
    ]


def test_a_published_datasets_own_file_is_understood(tmp_path: Path) -> None:
    files = {split: {"url": f"/data/{split}.json", "storage": f"/data/{split}.json"} for split in ("train", "val")}
    build = {"data_type": "videos", "build_info": {"annotations": files, "videos": {"storage": "/data/videos/"}}}
    own, remarks = translated({"datasets": {"tvqa": build}}, place="file")
    storages = {split: {"storage": f"/data/{split}.json"} for split in ("train", "val")}
    expected = {"annotations": storages, "videos": {"storage": "/data/videos/"}}
    assert own == {"datasets": {"tvqa": {"build_info": expected}}}
    assert "datasets.tvqa.build_info.annotations.train.url" in remarks[0]


@pytest.mark.parametrize(
    ("key", "value", "counterpart"),
    [
        ("model.load_finetuned", False, {"model": {"finetuned": None}}),
        ("model.load_finetuned", True, {"model": {}}),
        ("model.finetuned", "", {"model": {"finetuned": None}}),
        ("model.use_grad_checkpoint", True, {"model": {"checkpointing": "torch"}}),
        ("model.use_grad_checkpoint", False, {"model": {"checkpointing": "none"}}),
        ("model.model_type", "pretrain_flant5xxl", {"model": {"model_type": "flant5xxl"}}),
        ("run.runner", "runner_iter", {"run": {"runner": "runner_base"}}),
        ("run.warmup_lr", -1, {"run": {"warmup_lr": None}}),
        ("run.distributed", False, {"run": {"distributed": "ddp"}}),
        ("run.iters_per_inner_epoch", 500, {"run": {}}),
        ("preprocess", {"text_processor": {}}, {}),
    ],
)
def test_each_counterpart_is_what_the_published_setting_means(key: str, value: object, counterpart: dict) -> None:
    first, _, second = key.partition(".")
    own, remarks = translated({first: {second: value}} if second else {first: value}, place="file")
    assert own == counterpart
    assert len(remarks) == 1
    assert key in remarks[0]


def test_what_is_not_to_be_loaded_is_not_whatever_the_order() -> None:
    for model in ({"load_finetuned": False, "finetuned": "a.pth"}, {"finetuned": "a.pth", "load_finetuned": False}):
        assert translated({"model": model}, place="file")[0] == {"model": {"finetuned": None}}


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"model_type": "pretrain_mine", "frame_num": 4, "finetuned": ["a", "b"]}},
        {"run": {"distributed": "fsdp", "warmup_lr": 0.0, "device": "cuda", "output_dir": "out"}},
        {"run": {"mix": {"nextqa": 1}}, "model.load_finetuned": True},
        {"model": 5, "run": None, "datasets": {}},
        {1: {2: 3}, "1": 4},
    ],
)
def test_our_own_settings_and_unknown_ones_pass_as_they_are(settings: dict) -> None:
    assert translated(settings, place="file") == (settings, [])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"freeze_vit": False}}, "model.freeze_vit is false, but the vision tower is always frozen here"),
        ({"model": {"load_finetuned": "yes"}}, "model.load_finetuned is 'yes'; it must be true or false"),
        ({"model": {"use_grad_checkpoint": 1}}, "model.use_grad_checkpoint is 1; it must be true or false"),
        ({"run": {"resume_ckpt_path": "a.pth"}}, "start from its weights with model.finetuned=FILE, or go on with a"),
        ({"datasets": {"star": {"data_type": "features"}}}, "data_type is 'features'; only videos can be read"),
    ],
)
def test_what_cannot_be_done_here_is_refused_with_the_way_out(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        translated(settings, place="file")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.load_finetune=True", "model: unknown key 'load_finetune'; did you mean 'finetuned'?"),
        ("run.num_beam=1", "run: unknown key 'num_beam'"),
        ("datasets.star.text_processors.eval.name=x", "datasets.star: unknown key 'text_processors'"),
        ("datasets.star.build_info.images.storage=x", "datasets.star.build_info: unknown key 'images'"),
    ],
)
def test_a_key_that_neither_knows_is_refused(option: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_train_config(written(training_recipe("star"), tmp_path), options=[option])
    assert message in str(raised.value)
