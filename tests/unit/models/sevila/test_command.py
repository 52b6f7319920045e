"""`sevila checkpoint` as a person uses it: exit codes, what is printed, and what is left behind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lavis.cli.main import main
from lavis.common.errors import EXIT_FAILURE, EXIT_USER_ERROR
from lavis.models.sevila import published
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.published import PublishedFile, Recipe

SavePublished = Callable[[str], Path]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run_command(*words: object) -> tuple[int, str, str]:
        code = main(["checkpoint", *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_command


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(model: SeViLA, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_converting_prints_where_every_part_came_from(
    run: Run, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    files = [save_published(name) for name in ("eva_vit_g.pth", "flan-t5", "blip2_pretrained.pth")]
    code, out, _ = run("convert", *files, "--size", size_file, "--out", tmp_path / "made")
    assert code == 0
    assert out.splitlines()[:4] == [
        f"  vision             from {files[0]}",
        f"  localizer          from {files[2]} (the answerer's)",
        f"  answerer           from {files[2]}",
        f"  language           from {files[1]}",
    ]
    assert out.splitlines()[-1] == f"small -> {tmp_path / 'made'}"
    assert run("verify", tmp_path / "made")[0] == 0


def test_merging_and_exporting_round_trip(run: Run, model: SeViLA, folder: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        model.localizer.queries += 1
    model.save_pretrained(tmp_path / "part", parts=["localizer"])
    assert run("merge", folder, tmp_path / "part", "--out", tmp_path / "merged")[0] == 0
    code, out, _ = run(
        "convert", tmp_path / "merged", "--to", "published", "--parts", "localizer", "--out", tmp_path / "loc.pth"
    )
    assert (code, out) == (0, f"{tmp_path / 'loc.pth'}: 50 entries under the published names\n")
    exported = torch.load(tmp_path / "loc.pth", weights_only=True)["model"]
    assert torch.equal(exported["query_tokens_loc"], model.localizer.queries)


def test_inspecting_counts_parameters_per_part(run: Run, save_published: SavePublished) -> None:
    code, out, _ = run("inspect", save_published("sevila_pretrained.pth"), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["kind"] == "SeViLA's visual prompters (as sevila_pretrained.pth)"
    assert [(part["name"], part["num_tensors"], part["dtypes"]) for part in found["parts"]] == [
        ("localizer", 49, {"float32": 49}),
        ("answerer", 49, {"float32": 49}),
    ]
    assert found["num_tensors"] == 100  # with two buffers of position ids
    assert found["missing"] == ["vision", "language"]


def test_inspecting_counts_the_tensors_of_the_file_and_not_ours(run: Run, save_published: SavePublished) -> None:
    path = save_published("eva_vit_g.pth")
    found = json.loads(run("inspect", path, "--json")[1])
    assert found["num_tensors"] == len(torch.load(path, weights_only=True))


def test_inspecting_a_model_folder_says_what_it_is_made_of(run: Run, folder: Path) -> None:
    code, out, _ = run("inspect", folder)
    assert code == 0
    assert "a whole model of this package" in out
    assert "  fits: small\n" in out
    assert "  missing for a whole model: nothing\n" in out


def test_a_sound_model_is_sound(run: Run, folder: Path) -> None:
    code, out, _ = run("verify", folder)
    num_weights = len(load_file(folder / "model.safetensors"))
    assert (code, out.splitlines()) == (
        0,
        [
            "  4 files compared with their sha256",
            f"  {num_weights} weights of vision, localizer, answerer, language fit small",
            "  every number is finite",
            f"{folder} is sound",
        ],
    )


def test_every_flipped_bit_of_a_saved_model_is_found(run: Run, folder: Path) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    for position in range(3, len(content), len(content) // 6):
        changed = bytearray(content)
        changed[position] ^= 4
        file.write_bytes(changed)
        code, out, _ = run("verify", folder)
        assert code == EXIT_FAILURE
        assert "WRONG: model.safetensors was changed: its sha256 is not the one in manifest.json" in out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").write_text("{}"), "config.json has 2 bytes instead of"),
        (lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(), "tokenizer/tokenizer.json is missing"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-100]
            ),
            "model.safetensors is damaged",
        ),
    ],
)
def test_damage_to_a_saved_model_is_named(
    damage: Callable[[Path], object], message: str, run: Run, folder: Path
) -> None:
    damage(folder)
    code, out, err = run("verify", folder)
    assert code != 0
    assert message in out + err


def test_a_tokenizer_that_does_not_go_with_the_model_is_found_without_a_manifest(run: Run, folder: Path) -> None:
    (folder / "manifest.json").unlink()
    file = folder / "tokenizer" / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8").replace("yes", "aye"), encoding="utf-8")
    code, out, _ = run("verify", folder)
    assert code == EXIT_FAILURE
    assert "WRONG: 'yes' is" in out


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_found(bad: float, run: Run, model: SeViLA, tmp_path: Path) -> None:
    with torch.no_grad():
        model.answerer.queries[0, 1, 2] = bad
    model.save_pretrained(tmp_path / "saved")
    code, out, _ = run("verify", tmp_path / "saved")
    assert code == EXIT_FAILURE
    assert "WRONG: 1 weights hold numbers that are not finite (answerer.queries)" in out


def test_a_file_with_too_few_weights_is_not_sound(
    run: Run, save_published: SavePublished, size_file: str, tmp_path: Path
) -> None:
    content = torch.load(save_published("qformer_loc.pth"), weights_only=True)["model"]
    del content["ln_vision_loc.bias"]
    save_file(content, tmp_path / "less.safetensors")
    code, out, _ = run("verify", tmp_path / "less.safetensors", "--size", size_file)
    assert code == EXIT_FAILURE
    assert "does not fit the model small: 1 missing (localizer.norm.bias)" in out


@pytest.mark.parametrize("action", ["inspect", "verify"])
@pytest.mark.parametrize("content", [None, b"", b"a letter, not weights"])
def test_what_is_no_checkpoint_is_one_line(action: str, content: bytes | None, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    code, out, err = run(action, path)
    assert code != 0
    assert len(err.splitlines()) == (1 if code == EXIT_USER_ERROR else 0)
    assert str(path) in out + err


def test_what_is_there_is_not_replaced_unless_asked(run: Run, model: SeViLA, folder: Path, tmp_path: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    model.save_pretrained(tmp_path / "part", parts=["localizer"])
    code, _, err = run("merge", folder, tmp_path / "part", "--out", folder)
    assert code == EXIT_USER_ERROR
    assert err == f"error: {folder} is already there; choose another --out, or replace it with --force\n"
    assert (folder / "manifest.json").read_bytes() == before
    assert run("merge", folder, tmp_path / "part", "--out", folder, "--force")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("convert", "{folder}", "--out", "{out}", "--parts", "vision"), "--parts goes with --to published"),
        (("convert", "{folder}", "x", "--to", "published", "--out", "{out}.pth"), "takes one model, not 2 paths"),
        (("convert", "{folder}", "--to", "publisht", "--out", "{out}"), "did you mean 'published'"),
        (("merge", "{out}", "x", "--out", "{out}"), "is not a saved model: it holds no config.json"),
        (("fetch", "flant5x"), "nothing is published for 'flant5x'; did you mean 'flant5xl'"),
        (("fetch", "flant5xl", "--from", "hubs"), "no 'hubs' weights for flant5xl; did you mean 'hub'"),
    ],
)
def test_a_wrong_command_is_one_line_and_writes_nothing(
    words: tuple[str, ...], message: str, run: Run, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, _, err = run(*(word.format(folder=folder, out=out) for word in words))
    assert (code, len(err.splitlines())) == (EXIT_USER_ERROR, 1)
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_what_can_be_fetched_is_listed(run: Run) -> None:
    code, out, _ = run("fetch")
    assert code == 0
    assert "  flant5xl --from sevila" in out
    assert "sevila_pretrained.pth" in out


@pytest.fixture
def small_recipe(
    save_published: SavePublished, size_file: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, PublishedFile]:
    """A recipe `small` of three published files, which are copied where they would be downloaded."""
    names = ("eva_vit_g.pth", "whole.pth")
    paths = {name: save_published(name) for name in names}
    files = {name: PublishedFile(name, 0.001, url=f"https://example.org/{name}") for name in names}

    def copy(url: str, target: Path, **_: object) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(paths[target.name].read_bytes())
        return target

    monkeypatch.setattr(published, "download", copy)
    monkeypatch.setitem(published.RECIPES, "small", {"all": Recipe("all in one", (files["whole.pth"],), 0.001)})
    monkeypatch.setattr(published, "convert", _converting_with(size_file))
    return files


def _converting_with(size_file: str) -> Callable[..., object]:
    real = published.convert

    def convert(paths: list[Path], out: Path, *, size: str, **options: object) -> object:
        assert size == "small"
        return real(paths, out, size=size_file, **options)  # type: ignore[arg-type]

    return convert


def test_fetching_downloads_and_assembles_in_the_store_and_not_twice(
    small_recipe: dict[str, PublishedFile], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("SEVILA_CHECKPOINTS", str(store))
    code, out, err = run("fetch", "small")
    assert code == 0
    assert err.splitlines()[0] == "whole.pth: downloading from https://example.org/whole.pth (about 0.001 GB)"
    assert out.splitlines()[0] == f"  vision             from {store / 'downloads' / 'whole.pth'}"
    assert run("verify", store / "sevila_small")[0] == 0
    code, out, _ = run("fetch", "small")
    assert code == 0
    assert out.startswith(f"{store / 'sevila_small'} is already there; ")


def test_a_disk_that_is_too_small_is_told_before_anything_is_downloaded(
    small_recipe: dict[str, PublishedFile], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = Recipe("huge", (small_recipe["whole.pth"],), 1e9)
    monkeypatch.setitem(published.RECIPES, "small", {"all": huge})
    code, _, err = run("fetch", "small", "--out", tmp_path / "made", "--downloads", tmp_path / "downloads")
    assert code == EXIT_USER_ERROR
    assert f"{tmp_path / 'made'} needs 1000000000.0 GB, but only" in err
    assert not (tmp_path / "downloads").exists()


def test_one_published_file_can_be_fetched_alone(
    small_recipe: dict[str, PublishedFile], run: Run, tmp_path: Path
) -> None:
    code, out, _ = run("fetch", "eva_vit_g.pth", "--downloads", tmp_path / "downloads")
    assert (code, out) == (0, f"{tmp_path / 'downloads' / 'eva_vit_g.pth'}\n")
    assert (tmp_path / "downloads" / "eva_vit_g.pth").stat().st_size > 0
