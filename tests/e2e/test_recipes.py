"""Recipes by name, from any folder."""

from pathlib import Path

import pytest

from lavis.cli.main import main
from lavis.common.files import configs_dir, recipes


def test_every_recipe_has_a_name_and_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    files = set(configs_dir().glob("*/*/*.yaml"))
    assert set(recipes().values()) == files
    assert recipes()["nextqa/finetune"] == configs_dir() / "sevila/finetune/nextqa.yaml"
    assert recipes()["hf/qvh/pretrain"] == configs_dir() / "hf/pretrain/qvh.yaml"
    assert recipes()["miniature/refine"] == configs_dir() / "sevila/miniature/refine.yaml"
    assert main(["recipes"]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == list(recipes())
    assert [line for line in lines if len(line[1]) < 20] == []
    assert main(["recipes", "hf/star"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        name for name in recipes() if name.startswith("hf/star/")
    ]


@pytest.mark.parametrize("given", [["--recipe", "star/finetune"], ["--cfg-path", "configs/sevila/finetune/star.yaml"]])
def test_recipes_of_the_package_work_from_anywhere(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path / "none"))
    assert main(["train", *given, "--dry-run", "--options", "model.model_type=tiny", "model.finetuned=null"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'none'}" in error  # the recipe was read: its data set is what is missing
    assert "star" in error


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["train"], "no recipe; give --recipe NAME or --cfg-path YAML, or see: sevila train --help"),
        (["evaluate"], "no recipe; give --recipe NAME or --cfg-path YAML, or see: sevila evaluate --help"),
        (["train", "--recipe", "nextqa/fintune"], "unknown recipe 'nextqa/fintune'; did you mean 'nextqa/finetune'?"),
        (["train", "--recipe", "nextqa/refine", "--cfg-path", "x.yaml"], "give --recipe or --cfg-path, not both"),
        (
            ["evaluate", "--recipe", "nextqa/inference", "--recipe", "star/inference"],
            "one recipe is evaluated at a time",
        ),
        (["recipes", "imagenet"], "no recipe has 'imagenet' in its name; see: sevila recipes"),
    ],
)
def test_mistakes_name_the_way_out(given: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
