import re
from dataclasses import asdict
from pathlib import Path

import pytest

from lavis.common.config import load_yaml
from lavis.common.errors import ConfigError
from lavis.common.files import configs_dir
from lavis.runners.config import load_evaluation_config, load_train_config, task_of
from lavis.tasks.metrics.moments import SpanRule
from tests.architecture.source import ROOT

MULTIPLE_CHOICE = {"nextqa", "star", "how2qa", "tvqa", "vlep"}
# selector, reader, keyframes; frames; the benchmarks that there is a recipe for.
STAGES = {
    "inference": (("localizer", "joint", "frame_num"), 32, MULTIPLE_CHOICE | {"qvh", "nextgqa"}),
    "uniform": (("uniform", "joint", "all"), 4, MULTIPLE_CHOICE),
    "voting": (("uniform", "per_frame", "all"), 4, MULTIPLE_CHOICE),
}
SCRIPTS = ROOT / "run_scripts" / "sevila" / "inference"


def recipes(stage: str) -> list[Path]:
    """The recipes that measure a row of the paper: all but the one for people's own questions."""
    found = (configs_dir() / "sevila" / stage).glob("*.yaml")
    return sorted(path for path in found if path.stem != "custom")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text("datasets: {nextqa: {}}\nrun: {test_splits: [val]}\nmoments: {max_gap_frames: 2}\n")
    return path


@pytest.mark.parametrize("stage", STAGES)
def test_there_is_a_recipe_for_every_benchmark(stage: str) -> None:
    assert {path.stem for path in recipes(stage)} == STAGES[stage][2]


@pytest.mark.parametrize(
    "path", [path for stage in STAGES for path in recipes(stage)], ids=lambda path: str(path)[-22:]
)
def test_every_recipe_says_what_it_measures_and_what_that_should_give(path: Path) -> None:
    config = load_evaluation_config(path)
    expected, frames, _ = STAGES[path.parent.name]
    task = task_of(config.base)
    assert (task.selector, task.reader, task.keyframes) == expected
    assert config.base.dataset.vis_processor.eval.n_frms == (75 if path.stem == "qvh" else frames)
    assert config.base.run.output_dir == f"output/{path.parent.name}_{path.stem}"
    assert config.split == ("test" if path.stem in ("qvh", "nextgqa") else "val")
    assert config.base.run.resume == "auto"
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert re.search(r"run\.recipe=\w+", "\n".join(header))
    assert re.search(r"\d\d\.\d", "\n".join(header))


def test_own_questions_have_a_recipe_that_needs_no_download() -> None:
    config = load_evaluation_config(configs_dir() / "sevila" / "inference" / "custom.yaml")
    assert (config.base.model.model_type, config.base.dataset_name, config.split) == ("tiny", "custom", "val")


@pytest.mark.parametrize("name", sorted(STAGES["inference"][2] | {"custom"}))
def test_every_benchmark_has_a_script_that_forwards_its_settings(name: str) -> None:
    *_, last = (SCRIPTS / f"{name}_infer.sh").read_text().splitlines()
    assert last == (
        'exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${NUM_PROCESSES:-4}" '
        f'evaluate.py --cfg-path configs/sevila/inference/{name}.yaml --options "$@"'
    )


def test_published_override_names_keep_working(recipe: Path) -> None:
    config = load_evaluation_config(
        recipe,
        options=[
            "run.output_dir=out",
            "model.frame_num=4",
            "datasets.nextqa.vis_processor.eval.n_frms=32",
            "run.batch_size_eval=8",
            "model.task=qvh_freeze_loc_freeze_qa_vid",
            "model.finetuned=x.pth",
            "run.task=videoqa",
            "datasets.nextqa.build_info.annotations.val.storage=a/val.json",
            "datasets.nextqa.build_info.videos.storage=b/videos",
        ],
    ).base
    assert (config.model.frame_num, config.run.batch_size_eval, config.model.finetuned) == (4, 8, "x.pth")
    assert config.dataset.vis_processor.eval.n_frms == 32
    assert (task_of(config).selector, task_of(config).reader) == ("localizer", "joint")


def test_moments_that_no_recipe_names_are_found_as_the_paper_finds_them(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("datasets: {nextqa: {}}\nrun: {test_splits: [val]}\n")
    assert load_yaml(configs_dir() / "default.yaml")["moments"] == asdict(SpanRule())
    assert load_evaluation_config(path).spans == SpanRule(max_gap_frames=6)
    assert "moments" not in load_train_config(path).resolved


def test_moments_come_from_the_recipe_and_options_win(recipe: Path) -> None:
    assert load_evaluation_config(recipe).spans == SpanRule(max_gap_frames=2)
    changed = load_evaluation_config(recipe, options=["moments.threshold=null", "moments.span_score=max"])
    assert changed.spans == SpanRule(threshold=None, max_gap_frames=2, span_score="max")


def test_evaluation_goes_on_unless_it_is_told_otherwise(recipe: Path, tmp_path: Path) -> None:
    assert load_evaluation_config(recipe).base.run.resume == "auto"
    assert load_evaluation_config(recipe, options=["run.resume=never"]).base.run.resume == "never"
    recipe.write_text("datasets: {nextqa: {}}\nrun: {test_splits: [val], resume: never}\n")
    assert load_evaluation_config(recipe).base.run.resume == "never"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("moments.treshold=1", "moments: unknown key 'treshold'; did you mean 'threshold'?"),
        ("moment.threshold=1", "unknown section 'moment'; did you mean 'moments'?"),
        ("moments.max_gap_frames=-1", "moments.max_gap_frames is -1; it must be 0 or more"),
        ("moments.min_length_s=.nan", "moments.min_length_s is nan; it must be 0 or more"),
        ("moments.span_score=men", "moments.span_score: unknown 'men'; did you mean 'mean'?"),
        ("run.test_splits=[val,test]", "run.test_splits names 2 splits; name one, such as [val]"),
        ("run.test_splits=[]", "run.test_splits names 0 splits; name one, such as [val]"),
        ("run.test_splits=[dev]", "run.test_splits: unknown 'dev'; known: test, train, val"),
        ("moments.threshold=.inf", "moments.threshold is inf; it must be a finite number"),
        ("run.best_metric=acuracy", "run.best_metric: 'acuracy' is not measured; did you mean 'accuracy'?"),
        ("run.warmup_steps=-1", "run.warmup_steps is -1; it must be 0 or more"),
        ("run.batch_size_eval=0", "run.batch_size_eval is 0; it must be 1 or more"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(recipe: Path, option: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_evaluation_config(recipe, options=[option])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_datasets_are_evaluated_one_at_a_time(recipe: Path) -> None:
    recipe.write_text("datasets: {nextqa: {}, star: {}}\nrun: {test_splits: [val]}\n")
    with pytest.raises(ConfigError, match="datasets names nextqa, star; evaluate them one at a time"):
        load_evaluation_config(recipe)
