import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import lavis
from lavis.cli.main import main
from lavis.common.errors import CheckpointError, ConfigError
from lavis.models.loading import check_weights, describe
from lavis.models.machine import usable_device
from lavis.models.sevila.model import SeViLA


def test_models_are_known_by_name() -> None:
    assert lavis.registry.get_model_class("sevila") is SeViLA
    assert {"tiny", "base", "flant5xl", "flant5xxl"} <= set(dict(lavis.model_zoo)["sevila"])
    assert len(lavis.model_zoo) == sum(map(len, dict(lavis.model_zoo).values()))
    header, line, *rows = str(lavis.model_zoo).splitlines()
    assert header.split() == ["Architectures", "Types"]
    assert set(line) == {"-"}
    assert {row.split()[0] for row in rows} == set(dict(lavis.model_zoo))


class Bare:
    """A model class that says nothing of itself."""

    from_pretrained = classmethod(lambda cls, source, dtype, device: cls())


def test_a_model_that_tells_nothing_of_itself_does_not_get_in_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(lavis.registry.models._parts, "bare", Bare)
    assert dict(lavis.model_zoo)["bare"] == []
    check_weights("bare")
    assert main(["models"]) == 0
    assert "tiny" in capsys.readouterr().out


def test_what_a_source_holds_is_told_without_loading_it(tmp_path: Path) -> None:
    told = describe("tiny")
    assert (told["name"], told["status"]) == ("tiny", "trained")
    assert sum(value.numel() for value in lavis.load_model(device="cpu").parameters()) == told["parameters"]
    assert describe(told["weights"])["parameters"] == told["parameters"]
    with pytest.raises(CheckpointError, match=r"no weights at .*other\.pth; set model\.finetuned to weights"):
        check_weights("tiny", partial=[tmp_path / "other.pth"])


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        ("models", ["sevila"]),
        ("prompts", ["moment", "multiple_choice", "next_event"]),
        ("policies", ["top_k", "random", "uniform", "windows"]),
        ("frame_packings", ["joint", "per_frame"]),
        ("vision_towers", ["blip2_vit_g", "timm"]),
        ("video_readers", ["decord", "frames", "pyav", "torchcodec"]),
    ],
)
def test_parts_are_listed_right_after_the_package_is_imported(registry: str, names: list[str]) -> None:
    code = f"import lavis; print(*lavis.registry.{registry}.names())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert set(names) <= set(found.stdout.split())


def test_a_loaded_model_is_frozen_in_eval_mode_and_full_precision_on_the_cpu() -> None:
    model = lavis.load_model("sevila", "tiny", device="cpu")
    assert not any(part.training for part in model.modules())
    assert not any(value.requires_grad for value in model.parameters())
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_lavis_way_of_asking_for_a_model_works() -> None:
    model, visual, text = lavis.load_model_and_preprocess(
        name="sevila", model_type="tiny", is_eval=True, device=torch.device("cpu")
    )
    assert not model.training
    assert (visual.keys(), text.keys()) == ({"eval"}, {"eval"})
    assert text["eval"]("Why?") == "Why?"
    assert not lavis.load_model(is_eval=False, device="cpu").localizer.training


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"name": "sevilla"},
            ConfigError,
            r"^unknown model 'sevilla'; did you mean 'sevila'\? known: hf, openai, sevila$",
        ),
        ({"model_type": "tinny"}, CheckpointError, r"^no model folder or size 'tinny'; did you mean 'tiny'\? known: "),
        ({"dtype": "fp8"}, ConfigError, r"^unknown dtype 'fp8'; .*known: bf16, fp16, fp32$"),
        ({"device": "gpu"}, ConfigError, r"^unknown device 'gpu'; give cpu, cuda, cuda:N or mps$"),
        ({"device": "meta"}, ConfigError, r"^unknown device 'meta'; give cpu, cuda, cuda:N or mps$"),
        ({"device": "cuda:99"}, ConfigError, r"^cannot use the device 'cuda:99' on this machine \([^\n]+\)$"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        lavis.load_model(**{"device": "cpu", **arguments})


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_devices_are_given_by_name_or_as_torch_has_them(device: str | torch.device) -> None:
    assert usable_device(device) == torch.device("cpu")
