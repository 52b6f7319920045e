from dataclasses import replace
from pathlib import Path

import pytest

from lavis.common.errors import ConfigError
from lavis.common.files import configs_dir
from lavis.datasets.builder import DatasetBuilder, builder_of
from lavis.runners.config import load_train_config, out_of_reach

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
        ("run.data_timeout_s=-1", "run.data_timeout_s is -1.0; it must be from 0 to 10000000.0"),
        ("run.distributed_timeout_s=0", "run.distributed_timeout_s is 0.0; it must be above 0"),
        ("run.distributed=dpp", "run.distributed: unknown 'dpp'; did you mean 'ddp'?"),
        ("run.clip_grad_norm=-1", "run.clip_grad_norm is -1.0; it must be above 0"),
        ("run.ema_decay=1", "run.ema_decay is 1.0; it must be from 0 to below 1"),
        ("model.frame_num=0", "model.frame_num is 0; it must be 1 or more"),
        ("model.selector=localiser", "model.selector: unknown frame selector 'localiser'; did you mean 'localizer'?"),
        ("model.reader=joined", "model.reader: unknown 'joined'; did you mean 'joint'?"),
        (
            "model.training_selector=rand",
            "model.training_selector: unknown frame selector 'rand'; did you mean ",
        ),
        ("model.task=train_qa_vida", "unknown task 'train_qa_vida'; did you mean 'train_qa_vid'?"),
        ("model.arch=sevilla", "unknown model.arch 'sevilla'; did you mean 'sevila'?"),
        ("model.dtype=bf61", "model.dtype: unknown 'bf61'; did you mean 'bf16'?"),
        ("model.checkpointing=tosch", "model.checkpointing: unknown 'tosch'; did you mean 'torch'?"),
        ("model.model_type=''", "model.model_type is ''; it must be some text"),
        ("model.finetuned=3", "model.finetuned is 3; give a folder or file of weights"),
        ("run.best_metric=acuracy", "run.best_metric: 'acuracy' is not measured; did you mean 'accuracy'?"),
        ("run.best_metric=questions", "run.best_metric: 'questions' is not measured; known: accuracy"),
        ("run.mix={nextqa: 1, star: 1}", "run.mix: no dataset 'star' in datasets"),
        ("run.mix.nextqa=0", "run.mix.nextqa is 0; it must be a number above 0"),
        ("run.runner=runner_bass", "run.runner: unknown 'runner_bass'; did you mean 'runner_base'?"),
        ("run.task=videoqo", "run.task: unknown 'videoqo'; did you mean 'videoqa'?"),
        ("run.device=gpu", "run.device is 'gpu'; it must be cpu, cuda or cuda:N"),
        ("run.output_dir=' '", "run.output_dir is ' '; it must be some text"),
        ("run.seed=-1", "run.seed is -1; it must be from 0 to"),
        ("run.batch_size_train=0", "run.batch_size_train is 0; it must be 1 or more"),
        ("run.batch_size_eval=-2", "run.batch_size_eval is -2; it must be 1 or more"),
        ("run.accum_grad_iters=0", "run.accum_grad_iters is 0; it must be 1 or more"),
        ("run.keep_last=0", "run.keep_last is 0; it must be 1 or more"),
        ("run.save_freq=0", "run.save_freq is 0; it must be 1 or more"),
        ("run.max_iters=0", "run.max_iters is 0; it must be 1 or more"),
        ("run.num_workers=-1", "run.num_workers is -1; it must be 0 or more"),
        ("run.init_lr=-1e-5", "run.init_lr is -1e-05; it must be 0 or more"),
        ("run.init_lr=.inf", "run.init_lr is inf; it must be a finite number"),
        ("run.min_lr=1", "run.min_lr is 1.0, above run.init_lr, 3e-05"),
        ("run.lr_decay_rate=0", "run.lr_decay_rate is 0.0; it must be above 0 and at most 1"),
        ("run.lr_decay_rate=2", "run.lr_decay_rate is 2.0; it must be above 0 and at most 1"),
        ("run.beta2=1", "run.beta2 is 1.0; it must be from 0 to below 1"),
        ("run.max_unreadable=1.5", "run.max_unreadable is 1.5; it must be from 0 to 1"),
        ("run.distributed_timeout_s=1e300", "run.distributed_timeout_s is 1e+300; it must be above 0 and at most 1e7"),
        ("run.frame_cache_gib=.inf", "run.frame_cache_gib is inf; it must be a finite number"),
        ("run.frame_cache_gib=0", "run.frame_cache_gib is 0.0; it must be above 0"),
        ("run.valid_splits=[dev]", "run.valid_splits: unknown 'dev'; known: test, train, val"),
        ("datasets.nextqa.prompt=multiple", "datasets.nextqa.prompt: unknown 'multiple'; did you mean"),
        ("datasets.nextqa.vis_processor.eval.n_frms=0", "datasets.nextqa.vis_processor.eval.n_frms is 0; it must be 1"),
        ("datasets.nextqa.vis_processor.train.name=blip2", "datasets.nextqa.vis_processor.train.name: unknown 'blip2'"),
        ("datasets.nextqa.build_info.videos.reader=av", "datasets.nextqa.build_info.videos.reader: unknown 'av'"),
        ("datasets.nextqa.build_info.videos.fps=0", "datasets.nextqa.build_info.videos.fps is 0.0; it must be above 0"),
        ("datasets.nextqa.build_info.videos.storage=[]", "datasets.nextqa.build_info.videos.storage: {} is no folder"),
        (
            "datasets.nextqa.build_info.annotations.val.storage=''",
            "annotations.val.storage is ''; it must be some text",
        ),
        ("run.init_lr=.nan", "run.init_lr is nan; it must be 0 or more"),
    ],
)
def test_a_mistake_is_named_with_the_nearest_name(recipe: Path, option: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_train_config(recipe, options=[option])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (
            ["model.frame_num=9"],
            "model.frame_num is 9, but only 4 frames are sampled (datasets.nextqa",
        ),
        (["model.frame_num=9"], "model.frame_num is 9, but only 8 frames are sampled in training"),
        (["run.warmup_lr=1"], "run.warmup_lr is 1, above run.init_lr, 3e-05: warm-up lowers the rate"),
        (["run.lr_decay_rate=0.9"], "run.lr_decay_rate is 0.9, which only run.lr_sched=linear_warmup_step_lr looks at"),
        (["run.recipe=zeroshot"], "run.recipe names no row of the paper's tables: 'zeroshot'; did you mean 'zeroshot_"),
    ],
)
def test_what_would_have_no_effect_is_said(recipe: Path, options: list[str], warning: str) -> None:
    assert load_train_config(recipe).remarks == ()
    assert any(remark.startswith(warning) for remark in load_train_config(recipe, options=options).remarks)


def test_frames_that_are_all_read_need_no_number_of_keyframes(recipe: Path) -> None:
    assert load_train_config(recipe, options=["model.frame_num=9", "model.task=freeze_qa_vid"]).remarks == ()


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({}, []),
        ({"warmup_steps": 29}, []),
        ({"warmup_steps": 30}, ["run.warmup_steps is 30, but the whole run has 30 iterations"]),
        ({"warmup_steps": 12, "max_iters": 12}, ["run.warmup_steps is 12, but the whole run has 12 iterations"]),
        ({"warmup_steps": 11, "published_quirks": True}, ["run.warmup_steps is 11, but the published warm-up ends"]),
        ({"accum_grad_iters": 11}, ["run.accum_grad_iters is 11, but an epoch has 10 iterations"]),
        ({"max_iters": 31}, ["run.max_iters is 31, but run.max_epoch=3 ends the run after 30"]),
        ({"max_iters": 30}, []),
    ],
)
def test_what_counts_further_than_the_run_is_said(recipe: Path, changes: dict, warnings: list[str]) -> None:
    run = replace(load_train_config(recipe, options=["run.warmup_steps=0"]).run, **changes)
    found = list(out_of_reach(run, per_epoch=10))
    assert len(found) == len(warnings)
    assert all(line.startswith(warning) for line, warning in zip(found, warnings, strict=True))


def test_an_unknown_dataset_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("datasets: {nextq: {}}\n")
    with pytest.raises(ConfigError, match="unknown dataset builder 'nextq'; did you mean 'nextqa'"):
        load_train_config(path)


INLINE = """
datasets:
  mine:
    prompt: multiple_choice
    vis_processor: {train: {name: blip2_video_train, n_frms: 4}, eval: {name: blip_video_eval, n_frms: 8}}
    build_info: {annotations: {train: {storage: mine.json}}, videos: {storage: videos}}
"""


def test_a_recipe_defines_a_dataset_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(INLINE)
    config = load_train_config(tmp_path / "recipe.yaml", options=["datasets.mine.vis_processor.eval.n_frms=16"])
    assert (config.dataset_name, config.dataset.vis_processor.eval.n_frms) == ("mine", 16)
    assert builder_of("mine", config.dataset) is DatasetBuilder


def test_a_recipe_defines_a_dataset_over_another_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("datasets: {mine: {type: qvh, build_info: {videos: {storage: mine}}}}")
    dataset = load_train_config(tmp_path / "recipe.yaml").dataset
    assert (dataset.prompt, dataset.build_info.videos.storage, dataset.type) == ("moment", "mine", "qvh")


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ("{mine: {type: qvhh}}", "unknown dataset builder 'qvhh'; did you mean 'qvh'?"),
        ("{mine: {type: [qvh]}}", "unknown dataset builder \"['qvh']\""),
        ("{mine: {prompt: moment}}", "unknown dataset builder 'mine'; known: "),
        ("{mine: {build_info: {videos: {storage: x}}}}", "datasets.mine: the key 'prompt' is missing"),
        (
            "{mine: {build_info: 3, prompt: moment, vis_processor: "
            "{train: {name: blip2_video_train}, eval: {name: blip_video_eval}}}}",
            "datasets.mine.build_info: a mapping is needed",
        ),
    ],
)
def test_a_dataset_that_a_recipe_does_not_define_whole_is_refused(tmp_path: Path, datasets: str, message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(f"datasets: {datasets}")
    with pytest.raises(ConfigError) as error:
        load_train_config(tmp_path / "recipe.yaml")
    assert message in str(error.value)


def test_modules_of_a_recipe_are_imported_before_names_are_checked(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plug_prompt.py").write_text(
        "from lavis import registry\nfrom lavis.processors.prompts import MomentPrompt\n"
        "registry.prompts.register('of_a_recipe')(MomentPrompt)\n"
    )
    recipe.write_text("datasets: {nextqa: {prompt: of_a_recipe}}\nrun: {imports: [plug_prompt]}\n")
    assert load_train_config(recipe).run.imports == ("plug_prompt",)


@pytest.mark.parametrize(
    ("imports", "message"),
    [
        ("[not_there]", "run.imports not_there: there is no module 'not_there' in "),
        ("not_there", "run: imports: tuple is needed, not 'not_there'"),
        ("[3]", "run: imports: str is needed, not 3"),
        ("['']", "run.imports : it cannot be imported (ValueError: Empty module name)"),
    ],
)
def test_modules_of_a_recipe_that_cannot_be_are_refused(recipe: Path, imports: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_train_config(recipe, options=[f"run.imports={imports}"])
    assert message in str(error.value)
