import argparse
import pickle
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from lavis.common.errors import CheckpointError
from lavis.common.files import file_digest
from lavis.models.checkpoints.weights_io import read_weights, stream_weights, write_weights

# torch remarks on damaged and foreign pickles before it refuses them.
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")

WEIGHTS = {
    "matrix": torch.arange(6.0).view(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([[0.1]], dtype=torch.bfloat16),
    "number": torch.tensor(3),
    "empty": torch.empty(0, 4),
}


def assert_equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def save_torch(path: Path) -> None:
    torch.save({"model": WEIGHTS, "epoch": 1}, path)


def save_torch_of_old(path: Path) -> None:
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)


def save_safetensors(path: Path) -> None:
    save_file(WEIGHTS, path)


def save_ours(path: Path) -> None:
    write_weights(path, WEIGHTS, metadata={"format": "pt"})


WRITERS = [save_torch, save_torch_of_old, save_safetensors, save_ours]


class Payload:
    """Code in a pickle: creates a file when it is unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.target,)  # type: ignore[return-value]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["weights.pth", "weights"])
def test_the_format_is_told_from_the_content_whatever_the_name(
    write: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    assert_equal(read_weights(tmp_path / name), WEIGHTS)


def test_a_torch_file_named_safetensors_is_told_how_to_be_named(tmp_path: Path) -> None:
    save_torch(tmp_path / "a.safetensors")
    with pytest.raises(
        CheckpointError, match=r"is a PyTorch file under the name of another format; rename it to \.pth"
    ):
        read_weights(tmp_path / "a.safetensors")


def test_what_is_written_is_what_safetensors_reads(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    sha256 = write_weights(file, WEIGHTS, metadata={"model": "small"})
    assert_equal(load_file(file), WEIGHTS)
    assert sha256 == file_digest(file)


def test_weights_are_converted_while_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    with file.open("wb") as opened:
        stream_weights(opened, WEIGHTS, metadata={}, dtypes={"matrix": torch.bfloat16})
    assert_equal(load_file(file), {**WEIGHTS, "matrix": WEIGHTS["matrix"].bfloat16()})


def test_views_are_written_as_what_they_show(tmp_path: Path) -> None:
    table = torch.arange(12.0).view(3, 4)
    write_weights(tmp_path / "w", {"turned": table.T, "column": table[:, 1]}, metadata={})
    assert_equal(load_file(tmp_path / "w"), {"turned": table.T.contiguous(), "column": table[:, 1].contiguous()})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^no weights at .*absent\.pth$"):
        read_weights(tmp_path / "absent.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"x", b"this is no checkpoint, but a letter\n", b"\x00" * 64])
def test_what_is_no_weight_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is neither a safetensors nor a PyTorch file, or is damaged$"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(write: Callable[[Path], None], share: float, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    write(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"damaged|refused") as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_of_a_torch_file_is_found_wherever_it_changes_a_number(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    save_torch(file)
    content = file.read_bytes()
    messages = []
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        try:
            assert_equal(read_weights(file), WEIGHTS)  # a bit of padding or of a date
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert [message for message in messages if "\n" in message] == []


def test_a_number_changed_in_the_body_of_a_torch_file_fails_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    save_torch(file)
    content = bytearray(file.read_bytes())
    content[content.index(WEIGHTS["matrix"].numpy().tobytes()) + 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged: weights/data/0 fails its checksum"):
        read_weights(file)


@pytest.mark.parametrize("write", WRITERS)
def test_random_damage_is_a_checkpoint_error_of_one_line(write: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / "weights"
    write(file)
    content = file.read_bytes()
    random = Random(0)
    messages = []
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(8):
            changed[random.randrange(len(changed))] = random.randrange(256)
        file.write_bytes(changed[: random.randrange(len(changed) // 2, len(changed) * 2)])
        try:
            read_weights(file)
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert [message for message in messages if "\n" in message] == []


@pytest.mark.parametrize("position", [0, 1, 7, 8, 9, 12, 40])
def test_a_flipped_bit_in_a_safetensors_header_is_refused(position: int, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    write_weights(file, {"matrix": WEIGHTS["matrix"]}, metadata={})
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << 3
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights(file)


def test_a_flipped_bit_in_the_numbers_of_a_safetensors_file_of_ours_fails_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    write_weights(file, WEIGHTS, metadata={})
    content = file.read_bytes()
    num_bytes = sum(tensor.numel() * tensor.itemsize for tensor in WEIGHTS.values())
    for position in range(len(content) - num_bytes, len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        file.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"is damaged: it fails its checksum; get or save it again$"):
            read_weights(file)


def test_a_header_whose_length_begins_like_a_pickle_is_a_safetensors_header(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    lengths = set()
    for padding in range(0, 256, 8):
        save_file(WEIGHTS, file, metadata={"padding": "x" * padding})
        lengths.add(file.read_bytes()[0])
        assert_equal(read_weights(file), WEIGHTS)
    assert 0x80 in lengths


def test_a_safetensors_file_of_others_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "weights.safetensors", metadata={"format": "pt"})
    assert_equal(read_weights(tmp_path / "weights.safetensors"), WEIGHTS)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"model": {"w": torch.ones(1)}, "config": bad}])
def test_a_file_that_carries_code_is_refused_and_the_code_not_run(
    zipped: bool, wrap: Callable[[object], object], tmp_path: Path
) -> None:
    target, file = tmp_path / "created", tmp_path / "weights.pth"
    torch.save(wrap(Payload(target)), file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"is refused: it holds more than weights \([\w.]+\), and reading that could"
    ):
        read_weights(file)
    assert not target.exists()
    torch.load(file, weights_only=False)  # the file is the attack it is meant to be
    assert target.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("beside", "named"),
    [
        (argparse.Namespace(lr=1e-4), "argparse.Namespace"),
        (Path("data"), r"pathlib[\w.]*\.PosixPath"),
        (Fraction(1, 3), "fractions.Fraction"),
    ],
)
def test_an_object_beside_the_weights_is_named_with_the_way_out(
    beside: object, named: str, zipped: bool, tmp_path: Path
) -> None:
    file = tmp_path / "trained.pth"
    torch.save({"model": WEIGHTS, "args": beside}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=rf"trained\.pth is refused: .*\({named}\), .*save its weights alone:"
    ) as caught:
        read_weights(file)
    assert "\n" not in str(caught.value)
    # The way out that the line gives.
    torch.save(torch.load(file, weights_only=False)["model"], tmp_path / "weights.pth")
    assert_equal(read_weights(tmp_path / "weights.pth"), WEIGHTS)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize(
    "wrap",
    [
        "module.{}",
        "_orig_mod.{}",
        "module._orig_mod.{}",
        "_orig_mod.module.{}",
        "module.module.{}",
        "_fsdp_wrapped_module.{}",
        "_fsdp_wrapped_module.part._fsdp_wrapped_module.{}",
        "part._checkpoint_wrapped_module.{}",
        "part._orig_mod.{}",
    ],
)
def test_what_a_wrapper_adds_to_names_is_taken_off(wrap: str, name: str, tmp_path: Path) -> None:
    wrapped = {wrap.format(name): value for name, value in WEIGHTS.items()}
    if name.endswith(".pth"):
        torch.save({"state_dict": wrapped}, tmp_path / name)
    else:
        save_file(wrapped, tmp_path / name)
    inner = "part.{}" if "part" in wrap else "{}"
    assert_equal(read_weights(tmp_path / name), {inner.format(name): value for name, value in WEIGHTS.items()})


def test_a_real_wrapped_module_is_read_as_what_it_wraps(tmp_path: Path) -> None:
    inner = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    expected = {name: value.clone() for name, value in inner.state_dict().items()}
    inner[0] = checkpoint_wrapper(inner[0])
    wrapped = torch.nn.DataParallel(torch.compile(inner, backend="eager"))
    assert all(name.startswith("module._orig_mod.") for name in wrapped.state_dict())
    torch.save({"model_state_dict": wrapped.state_dict(), "epoch": 2}, tmp_path / "wrapped.pth")
    assert_equal(read_weights(tmp_path / "wrapped.pth"), expected)


def test_a_weight_that_is_there_with_and_without_a_wrapper_is_refused(tmp_path: Path) -> None:
    save_file({"a.w": torch.ones(1), "a._orig_mod.w": torch.zeros(1)}, tmp_path / "both.safetensors")
    with pytest.raises(CheckpointError, match=r"holds a\.w a second time"):
        read_weights(tmp_path / "both.safetensors")


def test_a_name_that_only_some_weights_begin_with_is_theirs(tmp_path: Path) -> None:
    weights = {"module.w": torch.ones(1), "w": torch.zeros(1)}
    save_file(weights, tmp_path / "some.safetensors")
    assert_equal(read_weights(tmp_path / "some.safetensors"), weights)


def test_a_number_among_the_weights_is_named(tmp_path: Path) -> None:
    torch.save({"model": {**WEIGHTS, "step": 3}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"holds no state dict: 'step' is no tensor but int; leave it out"):
        read_weights(tmp_path / "a.pth")


def test_a_plain_pickle_that_carries_code_is_refused(tmp_path: Path) -> None:
    target, file = tmp_path / "created", tmp_path / "weights.pth"
    file.write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(CheckpointError, match="is refused"):
        read_weights(file)
    assert not target.exists()


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"model": [1]}, {"a": 1}, [torch.ones(1)], {"model": None}])
def test_a_torch_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_weights(tmp_path / "a.pth")


def test_a_zip_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(CheckpointError, match="is damaged: "):
        read_weights(tmp_path / "a.pth")
