import json
from pathlib import Path

import pytest

from lavis.cli.main import main
from lavis.common.errors import ConfigError
from lavis.datasets.builder import MixedBuilder, checked_mix
from lavis.runners.config import load_train_config
from tests.integration.evaluation.benchmarks import write_benchmark, write_clips
from tests.integration.training.tiny_run import write_tiny_model
from tests.unit.datasets.test_dataset import Named, epoch_ids, parts


class Builder:
    """Builds one dataset for whatever split it is said to have."""

    def __init__(self, dataset: Named, *, splits: tuple[str, ...] = ("val",)) -> None:
        self._dataset, self._splits = dataset, splits

    def build_training(self, split: str) -> Named:
        return self._dataset

    def build_evaluation(self, split: str) -> Named:
        return self._dataset

    def has_split(self, split: str) -> bool:
        return split in self._splits


def test_a_dataset_that_would_never_be_seen_is_refused() -> None:
    builders = {name: Builder(part) for name, part in zip(("nextqa", "star"), parts([5, 5]), strict=True)}
    with pytest.raises(ConfigError, match=r"run\.mix\.star is 0\.01: less than one sample an epoch"):
        MixedBuilder(builders, mix={"nextqa": 1.0, "star": 0.01}).build_training("train")
    assert len(MixedBuilder(builders).build_training("train")) == 10


def test_a_split_is_evaluated_on_all_datasets_that_have_it() -> None:
    builders = {"nextqa": Builder(Named("a", 2), splits=("val", "test")), "star": Builder(Named("b", 3))}
    mixed = MixedBuilder(builders, mix={"nextqa": 1.0, "star": 9.0})
    assert epoch_ids(mixed.build_evaluation("val"), 0) == ["a0", "a1", "b0", "b1", "b2"]
    assert epoch_ids(mixed.build_evaluation("test"), 0) == ["a0", "a1"]
    with pytest.raises(ConfigError, match="none of the datasets nextqa, star has a split 'train'"):
        mixed.build_evaluation("train")


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"nextqa": 2, "stra": 1}, "run.mix: no dataset 'stra' in datasets; did you mean 'star'?"),
        ({"nextqa": 2}, "run.mix has no ratio for star"),
        ({"nextqa": 2, "star": 0}, "run.mix.star is 0; it must be a number above 0"),
        ({"nextqa": 2, "star": "much"}, "run.mix.star is 'much'; it must be a number above 0"),
        ([2, 1], "run.mix is [2, 1]; give a ratio for each dataset"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(mix: object, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        checked_mix(mix, ["nextqa", "star"])
    assert str(error.value).startswith(message)


def test_a_recipe_names_several_datasets_and_their_ratios(tmp_path: Path) -> None:
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text("datasets: {nextqa: {}, star: {}}\nrun: {mix: {nextqa: 2, star: 1}}\n")
    config = load_train_config(recipe)
    assert list(config.datasets) == ["nextqa", "star"]
    assert checked_mix(config.run.mix, list(config.datasets)) == {"nextqa": 2.0, "star": 1.0}


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ("{nextqa: {}, vlep: {}}", "datasets that are mixed must have the same prompt, not datasets.nextqa.prompt="),
        ("{nextqa: {}, star: {vis_processor: {train: {n_frms: 8}}}}", "must have the same vis_processor.train.n_frms"),
        ("{}", "datasets must name one or more of"),
    ],
)
def test_datasets_that_cannot_share_a_batch_are_refused(tmp_path: Path, datasets: str, message: str) -> None:
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text(f"datasets: {datasets}\n")
    with pytest.raises(ConfigError, match=message):
        load_train_config(recipe)


RECIPE = """
model: {{model_type: "{model}", task: answerer_finetuning_uniform, frame_num: 2, dtype: fp32}}
datasets:
  nextqa: {{vis_processor: {{train: {{n_frms: 2}}, eval: {{n_frms: 2}}}}}}
  star: {{vis_processor: {{train: {{n_frms: 2}}, eval: {{n_frms: 2}}}}}}
run:
  {{output_dir: "{output}", device: cpu, num_workers: 0, max_epoch: 2, batch_size_train: 2, batch_size_eval: 2,
   mix: {mix}, valid_splits: [val], test_splits: [], log_freq: 1}}
"""


@pytest.mark.parametrize("mix", ["null", "{nextqa: 1, star: 2}"])
def test_a_mixed_run_trains_on_both_and_validates_on_both(
    mix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path / "data"))
    clips, model = write_clips(tmp_path / "clips"), write_tiny_model(tmp_path / "model")
    questions = 0
    for name in ("nextqa", "star"):
        folder = write_benchmark(name, data=tmp_path / "data", clips=clips)
        questions += len(json.loads((folder / "train.json").read_text()))
    recipe = tmp_path / "mixed.yaml"
    recipe.write_text(RECIPE.format(model=model, output=tmp_path / "out", mix=mix))
    capsys.readouterr()
    assert main(["train", "--cfg-path", str(recipe), "--dry-run"]) == 0
    assert f"samples: {questions}, batches per epoch: {-(-questions // 2)}" in capsys.readouterr().out
    assert main(["train", "--cfg-path", str(recipe)]) == 0
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert max(entry["iteration"] for entry in log if "iteration" in entry) == 2 * -(-questions // 2)
    validated = sum(len(json.loads((tmp_path / "data" / n / "val.json").read_text())) for n in ("nextqa", "star"))
    counts = [entry["questions"] for entry in log if "questions" in entry]
    assert counts == [validated] * 2
