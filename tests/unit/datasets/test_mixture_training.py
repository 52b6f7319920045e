"""A mixed run through the real command: every sample of both datasets, in the counts that the ratios give."""

import json
from pathlib import Path

import pytest

from lavis.cli.main import main
from tests.integration.evaluation.benchmarks import write_benchmark, write_clips
from tests.integration.training.tiny_run import write_tiny_model

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
