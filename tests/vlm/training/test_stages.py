"""The three stages on a tiny image-text model: what they train, write, and read of each other."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lavis.cli.main import main
from lavis.common.distributed import World
from lavis.common.errors import CheckpointError, ConfigError
from lavis.datasets.dataset import Sample, SampleKey
from lavis.models.hf.model import HFModel
from lavis.models.loading import load_model
from lavis.runners.build import build_parts, build_runner, build_validator
from lavis.runners.checkpoint import load_partial
from lavis.runners.config import load_train_config
from lavis.runners.dry_run import dry_run
from lavis.video import VideoReader
from tests.architecture.source import ROOT
from tests.integration.training.tiny_run import STAGES, TRAINED, options, recipe
from tests.vlm.training.conftest import ALPHA, LORA, RANK
from tests.vlm.training.plain import Plain

pytestmark = pytest.mark.vlm


def small(stage: str, data: Path, model: Path, output: Path, *more: str, **run: object) -> list[str]:
    return [*options(stage, data=data, model=model, output=output, **run), *LORA, *more]


def train(stage: str, *places: Path, more: tuple[str, ...] = (), **run: object) -> None:
    settings = {"max_iters": 3, "valid_splits": "[]", "test_splits": "[]", **run}
    build_runner(load_train_config(recipe(stage), options=small(stage, *places, *more, **settings)), World()).run()


def weights(model: HFModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def with_adapters(base: Path, *saved: Path) -> HFModel:
    model: HFModel = load_model("hf", str(base), device="cpu")
    for folder in saved:
        load_partial(model, folder)
    return model


def saying(*earlier: Path) -> str:
    return f"model.finetuned=[{','.join(map(str, earlier))}]"


@pytest.fixture(scope="module")
def chain(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three stages, each on what the ones before it trained, in folders of their names."""
    folder, earlier = tmp_path_factory.mktemp("chain"), []
    for stage in STAGES:
        train(stage, data, base, folder / stage, more=(saying(*earlier),) if earlier else ())
        earlier.append(folder / stage / "best")
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_changes_the_adapter_of_its_role_and_nothing_else(
    stage: str, data: Path, base: Path, adapters: Path, tmp_path: Path
) -> None:
    before = weights(with_adapters(base, adapters))
    train(stage, data, base, tmp_path / "run", more=(saying(adapters),))
    after = weights(with_adapters(base, adapters, tmp_path / "run" / "best"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if f".{TRAINED[stage]}." in name}


def test_stages_start_from_each_others_adapters_and_roles_swap(chain: Path, base: Path) -> None:
    pretrained, refined, finetuned = (chain / stage / "best" for stage in STAGES)
    model = with_adapters(base, pretrained)
    assert (model.state_of("localizer"), model.state_of("answerer")) == ("localizer", "")
    for folder in (refined, finetuned):
        load_partial(model, folder)
    assert (model.state_of("localizer"), model.state_of("answerer")) == ("localizer", "answerer")
    own = weights(model)
    for folder, role in ((refined, "localizer"), (finetuned, "answerer")):
        for name, value in weights(with_adapters(base, folder)).items():
            if f".{role}." in name:
                assert torch.equal(value, own[name]), name


def test_the_best_weights_of_a_run_load_as_a_model_wherever_one_is(
    chain: Path, base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    model = load_model(model_type=str(chain / "finetune" / "best"), device="cpu")
    assert (model.state_of("localizer"), model.state_of("answerer")) == ("", "answerer")
    wanted = weights(with_adapters(base, chain / "finetune" / "best"))
    assert all(torch.equal(value, wanted[name]) for name, value in weights(model).items() if ".localizer." not in name)


def pictures(side: int) -> list[Image.Image]:
    noise = torch.randint(0, 256, (3, side, side, 3), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return [Image.fromarray(frame) for frame in noise.numpy()]


@pytest.mark.parametrize("stage", ["refine", "finetune"])
def test_what_a_run_keeps_loads_in_plain_peft_and_merges(stage: str, chain: Path, base: Path) -> None:
    role = TRAINED[stage]
    folder = chain / stage / "best"
    assert {path.name for path in folder.iterdir()} == {"config.json", "metrics.json", "model.safetensors", role}
    said = json.loads((folder / role / "adapter_config.json").read_text())
    assert (said["peft_type"], said["r"], said["lora_alpha"]) == ("LORA", RANK, ALPHA)
    assert said["base_model_name_or_path"] == str(base.resolve())

    model = with_adapters(base, folder)
    model.network.double()
    plain, without = Plain(base, folder / role), Plain(base)
    content = [*pictures(model.image_size), "Which?"]
    logits = [one.logits(content) for one in (plain, without)]
    ids = model.backbone.ids([{"type": "image"}] * 3 + ["Which?"], (model.image_size, model.image_size))
    frames = torch.stack([torch.from_numpy(np.asarray(one)) for one in content[:-1]])
    with model.used(role), torch.no_grad():
        own = model.backbone.logits([ids], model.backbone.features(frames.numpy()))[0]
    assert float((logits[0] - own).abs().max()) <= 1e-6 * float(own.std())
    assert float((logits[1] - own).abs().max()) > 1e-4 * float(own.std())
    plain.network = plain.network.merge_and_unload()
    assert float((plain.logits(content) - own).abs().max()) <= 1e-6 * float(own.std())


def test_a_folder_that_peft_has_written_is_read_as_the_adapter_of_the_role_it_is_named_for(
    base: Path, adapters: Path, tmp_path: Path
) -> None:
    Plain(base, adapters / "answerer").network.float().save_pretrained(tmp_path / "answerer")
    model = load_model("hf", str(base), device="cpu")
    assert load_partial(model, tmp_path / "answerer") == ["answerer"]
    assert model.state_of("localizer") == ""
    wanted = weights(load_model("hf", str(adapters), device="cpu"))
    for name, value in weights(model).items():
        assert ".localizer." in name or torch.equal(value, wanted[name]), name
    with pytest.raises(CheckpointError, match=r"cannot tell the role of the adapter at .*; name the folder localizer"):
        load_partial(model, (tmp_path / "answerer").rename(tmp_path / "mine"))


def test_a_checkpoint_of_a_run_can_be_started_from(chain: Path, base: Path) -> None:
    step = max((chain / "refine" / "checkpoints").glob("step_*"))
    with pytest.raises(CheckpointError, match=r"does not say what its adapters are; set model.lora"):
        load_partial(load_model("hf", str(base), device="cpu"), step)
    other = load_model("hf", str(base), device="cpu", lora={"rank": RANK + 1})
    with pytest.raises(CheckpointError, match=r"does not fit the model tiny: .*; set model.lora as it was trained"):
        load_partial(other, step)
    model = load_model("hf", str(base), device="cpu", lora={"rank": RANK, "alpha": ALPHA})
    assert load_partial(model, step) == ["localizer"]
    best = weights(with_adapters(base, chain / "refine" / "best"))
    for name, value in weights(model).items():
        assert ".answerer." in name or torch.equal(value, best[name]), name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lora_alpha": 3}, "has alpha 3, and the model's has 8; set model.lora.answerer.alpha=3, as it was trained"),
        ({"r": 2}, "has rank 2, and the model's has 4; set model.lora.answerer.rank=2, as it was trained"),
        ({"use_rslora": True}, "has use_rslora, which is not read"),
        ({"alpha_pattern": {"q_proj": 3}}, "has alpha_pattern, which is not read"),
        ({"peft_type": "LOHA"}, "is of the kind LOHA; only LoRA is read"),
    ],
)
def test_an_adapter_that_would_compute_something_else_is_refused(
    change: dict[str, Any], says: str, base: Path, adapters: Path, tmp_path: Path
) -> None:
    Plain(base, adapters / "answerer").network.float().save_pretrained(tmp_path / "answerer")
    file = tmp_path / "answerer" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=says):
        load_partial(load_model("hf", str(adapters), device="cpu"), tmp_path / "answerer")


def test_each_role_may_have_an_adapter_of_its_own_make(base: Path, tmp_path: Path) -> None:
    alike = {"rank": RANK, "alpha": ALPHA}
    model = load_model("hf", str(base), device="cpu", lora={**alike, "localizer": {"rank": 2, "targets": r".*v_proj"}})
    ranks = {
        role: {(len(value), "v_proj" in name) for name, value in model.adapters.parameters(role) if "lora_A" in name}
        for role in ("localizer", "answerer")
    }
    assert ranks == {"localizer": {(2, True)}, "answerer": {(RANK, True), (RANK, False)}}
    for _, parameter in model.adapters.parameters():
        parameter.data = torch.randn_like(parameter)
    model.set_trainable(("localizer",))
    model.train().eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "localizer" / "adapter_config.json").read_text())["r"] == 2
    other = load_model("hf", str(base), device="cpu")
    assert load_partial(other, tmp_path) == ["answerer", "localizer"]
    for again in (other, load_model("hf", str(tmp_path), device="cpu")):
        wanted = weights(model)
        assert wanted.keys() == weights(again).keys()
        assert all(torch.equal(value, wanted[name]) for name, value in weights(again).items())
    told = r"localizer has rank 2, and the model's has 4; set model.lora.localizer.rank=2, as it was trained"
    with pytest.raises(CheckpointError, match=told):
        load_partial(load_model("hf", str(base), device="cpu", lora=alike), tmp_path / "localizer")


def test_a_recipe_sets_one_roles_adapter_apart(data: Path, base: Path, tmp_path: Path) -> None:
    given = small("refine", data, base, tmp_path)
    config = load_train_config(recipe("refine"), options=[*given, "model.lora.localizer.rank=2"])
    assert config.model.lora is not None
    assert [config.model.lora.of(role).rank for role in ("localizer", "answerer")] == [2, RANK]
    with pytest.raises(ConfigError, match=r"model.lora.localizer: unknown key 'rnk'"):
        load_train_config(recipe("refine"), options=[*given, "model.lora.localizer.rnk=2"])


def test_evaluation_reads_base_and_adapters(
    chain: Path, data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options("finetune", data=data, model=base, output=tmp_path / "run")
    found = saying(chain / "refine" / "best", chain / "finetune" / "best")
    command = ["evaluate", "--cfg-path", "configs/sevila/inference/nextqa.yaml", "--options"]
    assert main([*command, *(one for one in given if not one.startswith("run.")), found, "run.device=cpu",
                 f"run.output_dir={tmp_path / 'run'}", "run.num_workers=0", "run.test_splits=[val]"]) == 0  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["questions"], metrics["unreadable"]) == (5, 0)
    assert metrics["finetuned"] == [str(chain / stage / "best") for stage in ("refine", "finetune")]
    capsys.readouterr()


def test_it_trains_on_pictures_of_the_videos_own_aspect_and_measures_frames_decoded_once(
    data: Path, base: Path, adapters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = small("finetune", data, base, tmp_path, saying(adapters))
    config, world = load_train_config(recipe("finetune"), options=given), World()
    parts = build_parts(config, world)
    # As the model sees it in inference, but cut at random to a part of the same aspect.
    sample = parts.builder.build_training("train")[SampleKey(0, 0)]
    assert isinstance(sample, Sample)
    with parts.builder.build_training("train").open_video(0) as video:
        assert (video.info.height, video.info.width, parts.model.image_size) == (64, 96, 32)
        # Twice what the model sees waits in memory, at most.
        assert sample.clip.pixels.shape == (4, 3, 43, 64)
        assert sample.clip.pixels.dtype == torch.uint8
    decoded = []
    pictures = VideoReader._batches

    def counted(reader: VideoReader, frame_idx: Any, **options: Any) -> Any:
        decoded.append(len(frame_idx))
        return pictures(reader, frame_idx, **options)

    monkeypatch.setattr(VideoReader, "_batches", counted)
    validator = build_validator(config, parts, splits=["val"], world=world)
    metrics = validator(parts.model.eval(), "val")
    assert (metrics["questions"], metrics["unreadable"]) == (5, 0)
    assert decoded == [4] * 5


@pytest.mark.parametrize("stage", STAGES)
def test_dry_run_reports_the_adapters_that_train(stage: str, data: Path, base: Path, tmp_path: Path) -> None:
    config = load_train_config(recipe(stage), options=small(stage, data, base, tmp_path / "run"))
    report = dry_run(config, World())
    rows = {row[0]: row[1:3] for row in re.findall(r"^(\w+) +([\d,]+) +([\d,]+)  float32$", report, re.M)}
    # Rank 4 at four layers of attention of each of two blocks: q and o 32 to 32, k and v 32 to 16; both roles count.
    assert rows["language"][1] == f"{RANK * 2 * (2 * 64 + 2 * 48):,}"
    assert {name for name, (_, count) in rows.items() if count != "0"} == {"language"}
    assert re.search(r"^memory: \d+ MiB$", report, re.M)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("run.amp=true", "run.ema_decay=0.5", "run.accum_grad_iters=2", "run.clip_grad_norm=1.0"),
        ("model.dtype=bf16", "model.checkpointing=torch"),
        ("model.dtype=bf16", "run.amp=true", "run.frozen_verdicts=remembered"),
    ],
    ids=lambda more: ",".join(more),
)
@pytest.mark.parametrize("stage", STAGES)
def test_every_way_to_train_trains(
    stage: str, more: tuple[str, ...], data: Path, base: Path, adapters: Path, tmp_path: Path
) -> None:
    train(stage, data, base, tmp_path, more=(saying(adapters), *more), valid_splits="[val]", max_iters=4)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(0 < row["loss"] < 100 for row in rows if row["kind"] == "train")
    trained = weights(with_adapters(base, tmp_path / "best"))
    assert {value.dtype for name, value in trained.items() if "lora_" in name} == {torch.float32}


def test_an_image_text_model_trains_nothing_but_adapters(data: Path, base: Path, tmp_path: Path) -> None:
    given = options("refine", data=data, model=base, output=tmp_path)
    with pytest.raises(ConfigError, match=r"tiny has no adapters to train; set model.lora, such as \{rank: 16\}"):
        build_runner(load_train_config(recipe("refine"), options=given), World())
    of_sevila = [*options("refine", data=data, model=Path("tiny"), output=tmp_path), *LORA]
    with pytest.raises(ConfigError, match="tiny takes no lora; leave it out, or use an image-text model"):
        build_runner(load_train_config(recipe("refine"), options=of_sevila), World())
    for wrong, says in (("rank=0", "model.lora.rank"), ("rnk=4", "model.lora: unknown key 'rnk'"),
                        ("dropout=1.0", "model.lora.dropout")):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            load_train_config(recipe("refine"), options=[*given, f"model.lora.{wrong}"])


def test_the_command_trains_it(data: Path, base: Path, tmp_path: Path) -> None:
    command = [sys.executable, "train.py", "--cfg-path", str(recipe("pretrain")), "--options"]
    given = small("pretrain", data, base, tmp_path / "run", max_iters=2, valid_splits="[]", test_splits="[]")
    done = subprocess.run([*command, *given], cwd=ROOT, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "best" / "localizer" / "adapter_model.safetensors").is_file()
