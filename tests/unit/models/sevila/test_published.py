"""Published files from the hub and from addresses of their own."""

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

from lavis.common.errors import CheckpointError, UserError
from lavis.models.checkpoints.download import download_from_hub
from lavis.models.sevila import published
from lavis.models.sevila.published import PublishedFile, fetch_file, find_recipe
from tests.unit.models.checkpoints.file_server import Server, serving

CONTENT = b"weights of a published model"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving({"/weights.pth": CONTENT}) as state:
        yield state


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server as the Hugging Face hub."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server.headers, server.version = {"X-Repo-Commit": "a" * 40}, None
    return server


def put_on_hub(hub: Server, repository: str, files: dict[str, bytes]) -> None:
    hub.files |= {f"/{repository}/resolve/main/{name}": content for name, content in files.items()}


def test_a_hub_file_is_checked_by_the_sha256_the_hub_names(hub: Server) -> None:
    put_on_hub(hub, "some/model", {"weights.pth": CONTENT})
    assert download_from_hub("some/model", "weights.pth").read_bytes() == CONTENT


def test_a_hub_file_of_another_sha256_is_refused(hub: Server) -> None:
    put_on_hub(hub, "some/model", {"weights.pth": CONTENT})
    hub.version = f'"{"0" * 64}"'
    with pytest.raises(CheckpointError, match=r"0{64} of some/model is damaged; remove it and fetch again"):
        download_from_hub("some/model", "weights.pth")


def test_a_file_that_the_hub_does_not_have_is_one_line(hub: Server) -> None:
    with pytest.raises(CheckpointError, match=r"^cannot download weights\.pth of some/model: .*404") as caught:
        download_from_hub("some/model", "weights.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "weights",
    [
        {"model.safetensors": b"all"},
        {
            "model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}',
            "model-1.safetensors": b"one",
            "model-2.safetensors": b"two",
        },
    ],
)
def test_a_hub_model_comes_in_one_folder_with_its_tokenizer(
    weights: dict[str, bytes], hub: Server, tmp_path: Path
) -> None:
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "tokenizer_config.json": b"{}", **weights}
    put_on_hub(hub, "google/flan", files)
    said: list[str] = []
    folder = fetch_file(PublishedFile("google/flan", 1.0), tmp_path, say=said.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert said == ["google/flan: from huggingface.co/google/flan (about 1.0 GB unless cached)"]


def test_a_hub_that_breaks_while_a_model_is_fetched_is_not_taken_for_a_model_in_one_file(
    hub: Server, tmp_path: Path
) -> None:
    put_on_hub(hub, "google/flan", {"config.json": b"{}", "tokenizer.json": b"{}"})
    with pytest.raises(CheckpointError, match=r"cannot download tokenizer_config\.json of google/flan"):
        fetch_file(PublishedFile("google/flan", 1.0), tmp_path)


def test_a_download_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    file = PublishedFile("weights.pth", 0.001, url=server.url())
    said: list[str] = []
    for _ in range(2):
        fetch_file(file, tmp_path, say=said.append)
    assert len(server.requests) == 1
    assert said[1] == f"weights.pth: already in {tmp_path}"


def test_recipes_are_found_by_size_and_name() -> None:
    assert find_recipe("flant5xl", None).files == (published.EVA, published.FLAN_T5_XL, published.SEVILA)
    assert find_recipe("flant5xxl", None).files[-1] == published.BLIP2_XXL
    with pytest.raises(UserError, match="nothing is published for 'flant5x'; did you mean 'flant5xl'"):
        find_recipe("flant5x", None)
    with pytest.raises(UserError, match="no 'sevilla' weights for flant5xl; did you mean 'sevila'"):
        find_recipe("flant5xl", "sevilla")
