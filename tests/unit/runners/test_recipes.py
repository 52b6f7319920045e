import re
import subprocess
from pathlib import Path

import pytest

from lavis.common.files import configs_dir, paper_tables_path
from lavis.export.report import load_paper_tables
from lavis.runners.config import load_evaluation_config, load_train_config, task_of

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted((ROOT / "run_scripts" / "sevila").glob("*/*.sh"))
QUESTIONS = ("nextqa", "star", "how2qa", "tvqa", "vlep")
TRAINING = [
    "pretrain/qvh", *(f"{stage}/{name}" for stage in ("refine", "finetune") for name in QUESTIONS),
]  # fmt: skip
EVALUATION = [
    "inference/qvh", *(f"{kind}/{name}" for kind in ("inference", "uniform", "voting") for name in QUESTIONS),
]  # fmt: skip

# Table 11: samples per process, batches per step, rate, steps of warm-up, epochs; four processes. Where the table gives
# 64 samples per GPU, the published scripts give 16 to each of four.
SETTINGS = {
    "pretrain/qvh": (16, 1, 3e-5, 1000, 80),
    "refine/nextqa": (16, 1, 3e-5, 500, 10),
    "refine/star": (16, 1, 3e-5, 500, 10),
    "refine/how2qa": (16, 1, 3e-5, 500, 10),
    "refine/tvqa": (16, 1, 3e-5, 2000, 10),
    "refine/vlep": (16, 1, 3e-5, 500, 10),
    "finetune/nextqa": (8, 2, 3e-5, 1000, 10),
    "finetune/star": (8, 2, 3e-5, 1000, 10),
    "finetune/how2qa": (4, 4, 3e-5, 3000, 10),
    "finetune/tvqa": (4, 4, 3e-5, 8000, 10),
    "finetune/vlep": (4, 4, 1e-5, 1200, 10),
}
HOURS = {"pretrain": "about 12 hours", "refine": "3 to 17 hours", "finetune": "8 to 48 hours"}
OBJECTIVES = {"pretrain": "localizer_pretraining", "refine": "self_refinement", "finetune": "answerer_finetuning"}


def header(path: Path) -> str:
    return "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))


@pytest.mark.parametrize("name", TRAINING)
def test_training_recipes_have_the_published_settings(name: str) -> None:
    config = load_train_config(configs_dir() / "sevila" / f"{name}.yaml")
    run = config.run
    settings = (run.batch_size_train, run.accum_grad_iters, run.init_lr, run.warmup_steps, run.max_epoch)
    assert settings == SETTINGS[name]
    stage, benchmark = name.split("/")
    assert (config.dataset_name, task_of(config).objective) == (benchmark, OBJECTIVES[stage])
    assert run.output_dir == f"output/{stage}_{benchmark}"
    assert config.dataset.vis_processor.train.n_frms == (32 if stage == "finetune" else 4)


@pytest.mark.parametrize("name", TRAINING)
def test_training_recipes_say_what_they_reproduce(name: str) -> None:
    words = header(configs_dir() / "sevila" / f"{name}.yaml")
    assert re.search(r"Table [1-4]\b", words)
    assert re.search(r"\d\d\.\d", words)
    assert "4 GPUs of 48 GB" in words
    assert HOURS[name.split("/")[0]] in words
    assert "Checked against a transcription of Table 11." in words


@pytest.mark.parametrize("policy", ["atp", "differentiable_top_k"])
def test_recipes_of_selectors_train_them_for_their_row_of_table_6(policy: str) -> None:
    path = configs_dir() / "sevila" / "selectors" / policy / "nextqa.yaml"
    config = load_train_config(path)
    task = task_of(config)
    assert (task.objective, task.trains, task.learns_from) == ("learn_selector", None, {"policy": {"name": policy}})
    assert (config.model.frame_num, config.dataset.vis_processor.train.n_frms) == (4, 32)
    (rows,) = [t.rows for t in load_paper_tables(paper_tables_path()).tables if t.title.startswith("Table 6")]
    figures = next(row.figures["nextqa"] for row in rows if row.recipe == f"keyframes_by_{policy}")
    assert all(str(value) in header(path) for value in figures.values())
    read = f"model.selector={{policy: {{name: {policy}, weights: {config.run.output_dir}/best}}}}"
    assert read in header(path)
    evaluation = load_evaluation_config(configs_dir() / "sevila" / "inference" / "nextqa.yaml", options=[read])
    assert task_of(evaluation.base).selector["policy"]["name"] == policy


@pytest.mark.parametrize("name", EVALUATION)
def test_evaluation_recipes_fit_the_schema(name: str) -> None:
    config = load_evaluation_config(configs_dir() / "sevila" / f"{name}.yaml")
    assert config.base.dataset_name == name.split("/")[1]


@pytest.mark.parametrize("benchmark", QUESTIONS)
@pytest.mark.parametrize(
    ("task", "selector", "reader"),
    [("answerer_finetuning_uniform", "uniform", "joint"), ("answerer_finetuning_voting", "uniform", "per_frame")],
)
def test_baselines_are_trained_by_options_over_the_recipe(
    benchmark: str, task: str, selector: str, reader: str
) -> None:
    path = configs_dir() / "sevila" / "finetune" / f"{benchmark}.yaml"
    named = re.findall(r"model\.task=(\w+)", header(path))
    assert task in named
    meant = task_of(load_train_config(path, options=[f"model.task={task}"]))
    assert (meant.objective, meant.selector, meant.reader) == ("answerer_finetuning", selector, reader)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_run_a_configuration_that_exists_and_pass_everything_on(path: Path) -> None:
    text = path.read_text()
    (program, config) = re.search(r"(\w+\.py) --cfg-path (\S+) --options \"\$@\"$", text.strip()).groups()
    assert (ROOT / config).is_file()
    kinds = {"train.py": load_train_config, "evaluate.py": load_evaluation_config}
    kinds[program](ROOT / config)
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0
    assert path.stat().st_mode & 0o111


@pytest.mark.parametrize(
    ("folder", "suffix", "names"),
    [
        ("refinement", "sr", QUESTIONS),
        ("finetune", "ft", QUESTIONS),
        ("inference", "infer", (*QUESTIONS, "qvh")),
    ],
)
def test_every_benchmark_has_its_scripts(folder: str, suffix: str, names: tuple[str, ...]) -> None:
    scripts = {path.name for path in SCRIPTS if path.parent.name == folder}
    assert {f"{name}_{suffix}.sh" for name in names} <= scripts


def test_pre_training_keeps_its_published_name() -> None:
    assert (ROOT / "run_scripts" / "sevila" / "pre-train" / "pretrain_qvh.sh") in SCRIPTS


@pytest.mark.parametrize("stage", ["pretrain", "refine", "finetune"])
def test_recipes_of_image_text_models_train_the_model_that_is_named(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("smolvlm2-500m", "qwen3-vl-4b"):
        monkeypatch.setenv("SEVILA_HF", model)
        files = sorted((configs_dir() / "hf" / stage).glob("*.yaml"))
        assert [file.stem for file in files] == (["qvh"] if stage == "pretrain" else ["nextqa", "star"])
        for file in files:
            config = load_train_config(file)
            assert (config.dataset_name, task_of(config).objective) == (file.stem, OBJECTIVES[stage])
            assert (config.model.model_type, config.model.dtype) == (model, "bf16")
            assert config.model.lora is not None
            assert config.run.output_dir == f"output/{model}/{stage}_{file.stem}"
            before = {"pretrain": None, "refine": "pretrain_qvh", "finetune": f"refine_{file.stem}"}[stage]
            assert config.model.finetuned == (None if before is None else [f"output/{model}/{before}/best"])


@pytest.mark.parametrize("name", ["nextqa", "star", "qvh"])
def test_recipes_that_evaluate_image_text_models_read_the_frames_that_training_chooses_from(name: str) -> None:
    config = load_evaluation_config(configs_dir() / "hf" / "inference" / f"{name}.yaml")
    assert config.base.model.model_type == "smolvlm2-500m"
    assert config.base.dataset.vis_processor.eval.n_frms == (75 if name == "qvh" else 32)
    assert config.base.run.output_dir == f"output/smolvlm2-500m/inference_{name}"
