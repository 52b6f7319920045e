"""What the command line of `sevila compare-selectors` comes to, and the recipes that it is given."""

import json
from pathlib import Path

import pytest

from lavis.cli.main import build_parser
from lavis.cli.selectors import comparison_config
from lavis.common.errors import ConfigError
from lavis.common.files import configs_dir
from lavis.runners.config import EvaluationConfig
from lavis.runners.evaluation.comparison import comparison_of

ROOT = Path(__file__).resolve().parents[3]
SELECTORS = configs_dir() / "sevila" / "selectors"
RECIPES = [*sorted(SELECTORS.glob("*.yaml")), configs_dir() / "sevila" / "miniature" / "selectors.yaml"]


def config_of(*arguments: str) -> EvaluationConfig:
    return comparison_config(build_parser().parse_args(["compare-selectors", *arguments]))


def test_a_benchmark_by_name_needs_no_recipe() -> None:
    found = config_of("nextqa", "--split", "val", "--selectors", "aks", "--k", "2", "8", "--model", "flant5xl")
    assert (found.base.dataset_name, found.split, found.base.model.model_type) == ("nextqa", "val", "flant5xl")
    assert found.base.dataset.vis_processor.eval.n_frms == 32
    assert found.base.run.resume == "auto"
    selectors, counts = comparison_of(found)
    assert ([one.label for one in selectors], counts) == (["aks", "uniform"], (2, 8))


def test_options_win_over_arguments_and_arguments_over_the_recipe() -> None:
    recipe = str(SELECTORS / "nextqa.yaml")
    assert config_of(recipe).base.dataset.vis_processor.eval.n_frms == 48
    found = config_of(recipe, "--num-frames", "8", "--out", "here", "--dtype", "fp32", "--device", "cpu")
    assert found.base.dataset.vis_processor.eval.n_frms == 8
    assert (found.base.run.output_dir, found.base.model.dtype, found.base.run.device) == ("here", "fp32", "cpu")
    given = ["--options", "comparison.selectors.bolt.policy={name: bolt, power: 2.5}", "comparison.k=[1]"]
    selectors, counts = comparison_of(config_of(recipe, "--k", "3", *given))
    (bolt,) = [one.spec for one in selectors if one.label == "bolt"]
    assert bolt == {
        "scorer": {"name": "dual_encoder", "model": "clip", "query": "question"},
        "policy": {"name": "bolt", "power": 2.5},
    }
    assert counts == (1,)
    # Selectors on the command line are in place of the recipe's.
    chosen = ["--selectors", "localizer", "{scorer: motion, k: 3, label: mine}"]
    selectors, _ = comparison_of(config_of(recipe, *chosen))
    assert [(one.label, one.own_k) for one in selectors] == [("localizer", None), ("mine", 3), ("uniform", None)]


def test_a_selector_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--selectors \{scorer"):
        config_of("nextqa", "--selectors", "{scorer")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_recipe_builds_all_that_it_names(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = tmp_path / "scores.jsonl"
    scores.write_text(json.dumps({"question_id": "q", "times_s": [0, 1], "scores": [0.1, 0.2]}))
    monkeypatch.setenv("SEVILA_MOMENT_DETR", str(scores))
    monkeypatch.chdir(tmp_path)
    for name in ("atp", "differentiable_top_k"):  # what training writes; it is read when a selector is built
        best = Path("output", f"selector_{name}_nextqa", "best")
        best.mkdir(parents=True)
        (best / "selector.safetensors").touch()
    selectors, counts = comparison_of(config_of(str(recipe)))
    assert len(selectors) >= 7
    assert {"localizer", "uniform"} <= {one.label for one in selectors}
    assert all(k <= config_of(str(recipe)).base.dataset.vis_processor.eval.n_frms for k in counts)


def test_table_6_has_the_papers_rows() -> None:
    text = (SELECTORS / "table6.yaml").read_text()
    for label in ("uniform", "clip", "moment_detr", "localizer", "atp", "differentiable_top_k", "localizer_refined"):
        assert f"\n    {label}:" in text


def test_the_kept_page_is_about_the_selectors_of_its_recipe() -> None:
    page = (ROOT / "benchmarks" / "SELECTORS.md").read_text(encoding="utf-8")
    selectors, counts = comparison_of(config_of(str(configs_dir() / "sevila" / "miniature" / "selectors.yaml")))
    for one in selectors:
        assert page.count(f"\n| {one.label} |") == len(counts)
