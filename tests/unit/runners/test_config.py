from pathlib import Path

import pytest

from lavis.common.errors import ConfigError
from lavis.common.paths import configs_dir
from lavis.runners.config import load_train_config

RECIPES = sorted(
    path for stage in ("pretrain", "refine", "finetune") for path in (configs_dir() / "sevila" / stage).glob("*.yaml")
)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("datasets: {nextqa: {vis_processor: {train: {n_frms: 8}}}}\nrun: {max_epoch: 3}\n")
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.parent.name + "/" + path.name)
def test_every_recipe_fits_the_schema(path: Path) -> None:
    assert load_train_config(path).model.model_type == "flant5xl"


def test_published_override_names_keep_working(recipe: Path) -> None:
    config = load_train_config(
        recipe,
        options=[
            "run.output_dir=out",
            "model.frame_num=2",
            "datasets.nextqa.vis_processor.train.n_frms=16",
            "datasets.nextqa.vis_processor.eval.n_frms=32",
            "datasets.nextqa.build_info.annotations.val.storage=a/val.json",
            "datasets.nextqa.build_info.videos.storage=b/videos",
            "run.batch_size_train=8",
            "run.batch_size_eval=4",
            "run.init_lr=3e-5",
            "run.max_epoch=10",
            "run.warmup_steps=1000",
            "run.accum_grad_iters=2",
            "model.task=qvh_freeze_loc_train_qa_with_loc_train_qa_vid",
            "model.finetuned=x.pth",
            "run.task=videoqa",
        ],
    )
    assert (config.model.frame_num, config.model.finetuned, config.run.init_lr) == (2, "x.pth", 3e-5)
    assert (config.run.batch_size_eval, config.run.accum_grad_iters, config.run.warmup_steps) == (4, 2, 1000)
    processors, info = config.dataset.vis_processor, config.dataset.build_info
    assert (processors.train.n_frms, processors.eval.n_frms) == (16, 32)
    assert info.annotations.val is not None
    assert (info.annotations.val.storage, info.videos.storage) == ("a/val.json", "b/videos")


def test_options_win_over_the_recipe_and_the_recipe_over_defaults(recipe: Path) -> None:
    assert load_train_config(recipe).run.max_epoch == 3
    assert load_train_config(recipe).run.seed == 42
    assert load_train_config(recipe).dataset.vis_processor.train.n_frms == 8
    assert load_train_config(recipe, options=["run.max_epoch=5"]).run.max_epoch == 5


def test_data_folders_follow_the_environment(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVILA_DATA", "somewhere")
    assert load_train_config(recipe).dataset.build_info.videos.storage == "somewhere/nextqa/videos"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("run.inti_lr=1", "run: unknown key 'inti_lr'; did you mean 'init_lr'?"),
        ("rum.init_lr=1", "unknown section 'rum'; did you mean 'run'?"),
        ("model.frame_nun=1", "model: unknown key 'frame_nun'; did you mean 'frame_num'?"),
        ("datasets.nextqa.vis_procesor.eval.n_frms=1", "unknown key 'vis_procesor'; did you mean 'vis_processor'?"),
        ("datasets.nextqa.build_info.annotations.vall.storage=x", "unknown key 'vall'; did you mean 'val'?"),
        ("datasets.star.prompt=x", "--options: datasets.star is not in"),
        ("run.max_epoch=many", "run: max_epoch: int is needed, not 'many'"),
        ("run.max_epoch=0", "run.max_epoch is 0; it must be 1 or more"),
        ("run.iterations=0", "run.iterations is 0; it must be 1 or more"),
        ("run.data_timeout_s=-1", "run.data_timeout_s is -1.0; it must be 0 or more"),
        ("run.distributed_timeout_s=0", "run.distributed_timeout_s is 0.0; it must be above 0"),
        ("run.distributed=dpp", "run.distributed: unknown 'dpp'; did you mean 'ddp'?"),
        ("run.clip_grad_norm=-1", "run.clip_grad_norm is -1.0; it must be above 0"),
        ("run.ema_decay=1", "run.ema_decay is 1.0; it must be from 0 to below 1"),
        ("run.init_lr=.nan", "run.init_lr is nan; it must be 0 or more"),
    ],
)
def test_a_mistake_is_named_with_the_nearest_name(recipe: Path, option: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_train_config(recipe, options=[option])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_dataset_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("datasets: {nextq: {}}\n")
    with pytest.raises(ConfigError, match="unknown dataset builder 'nextq'; did you mean 'nextqa'"):
        load_train_config(path)
