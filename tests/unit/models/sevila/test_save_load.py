import json
from pathlib import Path

import pytest
import torch

from lavis.common.errors import CheckpointError, ConfigError, UserError
from lavis.common.files import checkpoints_dir
from lavis.models.checkpoints import weights_io
from lavis.models.checkpoints.weights_io import state_of, write_weights
from lavis.models.sevila.config import find_model
from lavis.models.sevila.known_files import to_published
from lavis.models.sevila.loading import load_weights, set_precision
from lavis.models.sevila.model import SeViLA

FILES = [
    "config.json",
    "manifest.json",
    "model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def assert_same_weights(first: SeViLA, second: SeViLA, *, but: str = "nothing") -> None:
    one, other = state_of(first), state_of(second)
    assert one.keys() == other.keys()
    different = [
        name for name in one if one[name].dtype != other[name].dtype or not torch.equal(one[name], other[name])
    ]
    assert [name for name in different if not name.startswith(but)] == []


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_saved_model_loads_bit_by_bit(model: SeViLA, tmp_path: Path, dtype: str) -> None:
    set_precision(model, dtype)
    model.save_pretrained(tmp_path / "saved")
    assert files_in(tmp_path / "saved") == FILES
    loaded = SeViLA.from_pretrained(tmp_path / "saved", dtype=dtype)
    assert_same_weights(model, loaded)
    assert loaded.config == model.config
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_precisions_of_their_own_are_kept_on_disk(model: SeViLA, tmp_path: Path) -> None:
    set_precision(model, "fp16")
    model.save_pretrained(tmp_path)
    loaded = SeViLA.from_pretrained(tmp_path, dtype="fp16")
    dtypes = {name: value.dtype for name, value in state_of(loaded).items()}
    assert {name.partition(".")[0]: dtype for name, dtype in dtypes.items()} == {
        "vision": torch.float16,
        "localizer": torch.float32,
        "answerer": torch.float32,
        "language": torch.bfloat16,
    }
    assert_same_weights(model, loaded)


def test_the_output_matrix_is_not_the_embedding_after_loading(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    language = SeViLA.from_pretrained(tmp_path).language.model
    assert not torch.equal(language.lm_head.weight, language.shared.weight)
    assert language.encoder.embed_tokens.weight is language.shared.weight
    assert language.decoder.embed_tokens.weight is language.shared.weight


def test_the_saved_tokenizer_makes_the_same_tokens(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = SeViLA.from_pretrained(tmp_path)
    for text in ("Frame: ", "Frame 10: ", "yes", "Option A: a cup."):
        assert loaded.language.tokenizer(text).input_ids == model.language.tokenizer(text).input_ids


def test_saving_again_replaces_the_model(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.answerer.queries += 1
    model.save_pretrained(tmp_path)
    assert files_in(tmp_path) == FILES
    assert_same_weights(model, SeViLA.from_pretrained(tmp_path))


def test_a_part_alone_is_saved_and_laid_over_a_model_in_memory(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "part", parts=["localizer"])
    other = SeViLA.untrained(model.config)
    assert other.load_partial(tmp_path / "part") == ["localizer"]
    changed = {name for name, value in state_of(other).items() if torch.equal(value, state_of(model)[name])}
    assert changed == {name for name in state_of(model) if name.startswith("localizer.")}


def test_parts_take_the_precision_of_the_model_they_are_laid_over(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "part", parts=["localizer"])
    other = SeViLA.untrained(model.config)
    set_precision(other, "bf16")
    other.load_partial(tmp_path / "part")
    assert torch.equal(other.localizer.queries, model.localizer.queries.bfloat16())


@pytest.mark.parametrize("published", [False, True])
def test_any_weights_of_a_model_are_laid_over_it_whatever_their_names(
    published: bool, model: SeViLA, tmp_path: Path
) -> None:
    """Fine-tuning saves what it trained, which may be less than a part, and published code saves its own names."""
    some = {name: value.detach() for name, value in state_of(model).items() if name.startswith("answerer.norm.")}
    if published:
        torch.save({"model": to_published(some)}, tmp_path / "weights.pth")
    else:
        write_weights(tmp_path / "weights.safetensors", some, metadata={})
    other = SeViLA.untrained(model.config)
    assert other.load_partial(tmp_path / "weights.pth" if published else tmp_path) == ["answerer"]
    changed = {name for name, value in state_of(other).items() if torch.equal(value, state_of(model)[name])}
    assert changed == some.keys()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("answerer.norm.extra", [1], r"does not fit the model small: 1 unexpected \(answerer\.norm\.extra\)"),
        ("answerer.norm.bias", [3], r"1 of another shape \(answerer\.norm\.bias \[3\] instead of \[8\]\)"),
        ("other.bias", [1], "belongs to no known model: it holds names such as 'other.bias'"),
    ],
)
def test_weights_that_a_model_has_no_place_for_change_nothing(
    name: str, shape: list[int], message: str, model: SeViLA, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in state_of(model).items()}
    fitting = {} if name.startswith("other") else {"answerer.queries": torch.ones(1, 2, 8)}
    write_weights(tmp_path / "a.safetensors", {**fitting, name: torch.ones(shape)}, metadata={})
    with pytest.raises(CheckpointError, match=message):
        model.load_partial(tmp_path / "a.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in state_of(model).items())


def test_a_part_alone_is_no_model_and_the_message_says_what_to_do(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, parts=["localizer"])
    with pytest.raises(CheckpointError, match=r"missing \(vision.*it holds only localizer: .*sevila checkpoint merge$"):
        SeViLA.from_pretrained(tmp_path)


def test_a_part_does_not_take_the_place_of_a_whole_model(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="also holds answerer, language, vision, which would be lost"):
        model.save_pretrained(tmp_path, parts=["localizer"])
    assert_same_weights(model, SeViLA.from_pretrained(tmp_path))


def test_a_part_is_saved_over_itself(model: SeViLA, tmp_path: Path) -> None:
    for _ in range(2):
        model.save_pretrained(tmp_path, parts=["localizer"])
    assert files_in(tmp_path) == FILES


def test_an_unknown_part_is_refused_with_the_nearest(model: SeViLA, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no part 'localiser' to save; did you mean 'localizer'"):
        model.save_pretrained(tmp_path, parts=["localiser"])
    assert files_in(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(model: SeViLA, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"^cannot write .*file/model/model\.safetensors: .+") as caught:
        model.save_pretrained(tmp_path / "file" / "model")
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_old_model_whole(model: SeViLA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.save_pretrained(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}

    def fail(*args: object, **options: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights_io, "stream_weights", fail)
    with pytest.raises(UserError, match=r"cannot write .*model\.safetensors: No space left on device"):
        model.save_pretrained(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before


def test_a_save_that_stops_half_way_leaves_no_model(
    model: SeViLA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path)

    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights_io, "write_manifest", stop)
    with pytest.raises(KeyboardInterrupt):
        model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is not a saved model: it holds no config\.json"):
        SeViLA.from_pretrained(tmp_path)


def test_the_manifest_names_every_file_but_itself(model: SeViLA, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    listed = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert sorted(listed) == [name for name in FILES if name != "manifest.json"]
    assert {name: entry["bytes"] for name, entry in listed.items()} == {
        name: (tmp_path / name).stat().st_size for name in listed
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("answerer.queries"), r"1 missing \(answerer\.queries\)"),
        (lambda weights: weights.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda weights: weights.update({"answerer.queries": torch.zeros(1, 3, 8)}),
            r"1 of another shape \(answerer\.queries \[1, 3, 8\] instead of \[1, 2, 8\]\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_listed(model: SeViLA, change: object, message: str) -> None:
    weights = {name: value.detach().clone() for name, value in state_of(model).items()}
    change(weights)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=rf"^here does not fit the model small: {message}$"):
        load_weights(model, weights, place="here")


def test_loading_into_a_model_keeps_its_tensors_and_precision(model: SeViLA) -> None:
    target = SeViLA.untrained(model.config)
    set_precision(target, "bf16")
    queries = target.answerer.queries
    load_weights(target, state_of(model), place="here")
    assert target.answerer.queries is queries
    assert torch.equal(queries, model.answerer.queries.bfloat16())


def test_a_weight_file_in_place_of_a_folder_is_told_how_to_convert(tmp_path: Path) -> None:
    file = tmp_path / "sevila_pretrained.pth"
    file.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"is a file, not a model folder; .* sevila checkpoint convert"):
        find_model(file)


def test_a_folder_called_like_a_size_is_meant_by_its_path_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("tiny") == checkpoints_dir() / "sevila_tiny"
    assert find_model("./tiny") == Path("tiny")
    assert find_model(Path("tiny")) == Path("tiny")


def test_a_hub_language_model_is_saved_so_that_it_loads_without_the_hub(model: SeViLA, tmp_path: Path) -> None:
    import dataclasses

    hub = dataclasses.replace(model.config.language, pretrained="nobody/such-t5", sizes={})
    model.config = dataclasses.replace(model.config, language=hub)
    model.save_pretrained(tmp_path)
    loaded = SeViLA.from_pretrained(tmp_path)
    assert loaded.config.language.pretrained is None
    assert_same_weights(model, loaded)
