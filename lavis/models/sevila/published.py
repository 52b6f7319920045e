"""The published weight files: where they are, which of them make a model, and fetching them.

This module is also what `sevila checkpoint` knows of SeViLA (`weight_tools`): what is not here it imports.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import EntryNotFoundError

from lavis.common.errors import CheckpointError, ConfigError, UserError, did_you_mean
from lavis.models.checkpoints.download import Progress, download, download_from_hub
from lavis.models.checkpoints.weights_io import TOKENIZER_FILES, index_entries
from lavis.models.sevila.config import checkpoint_store  # noqa: F401
from lavis.models.sevila.convert import PARTS, Assembled, convert, export_published, merge  # noqa: F401
from lavis.models.sevila.known_files import inspect, verify  # noqa: F401


@dataclass(frozen=True)
class PublishedFile:
    """A file with an address of its own or in a repository of the hub; without either, a whole repository."""

    name: str
    gigabytes: float
    url: str = ""
    repository: str = ""


def _of_lavis(name: str, gigabytes: float) -> PublishedFile:
    store = "https://storage.googleapis.com/sfr-vision-language-research/LAVIS/models/BLIP2"
    return PublishedFile(name, gigabytes, url=f"{store}/{name}")


EVA = _of_lavis("eva_vit_g.pth", 2.0)
BLIP2_XL = _of_lavis("blip2_pretrained_flant5xl.pth", 0.5)
BLIP2_XXL = _of_lavis("blip2_pretrained_flant5xxl.pth", 0.5)
SEVILA = PublishedFile("sevila_pretrained.pth", 0.9, repository="Shoubin/SeViLA")
FLAN_T5_XL = PublishedFile("google/flan-t5-xl", 11.4)
FLAN_T5_XXL = PublishedFile("google/flan-t5-xxl", 45.1)
HUB_BLIP2_XL = PublishedFile("Salesforce/blip2-flan-t5-xl", 15.8)
HUB_BLIP2_XXL = PublishedFile("Salesforce/blip2-flan-t5-xxl", 49.0)

FILES: dict[str, PublishedFile] = {
    file.name: file for file in (EVA, BLIP2_XL, BLIP2_XXL, SEVILA, FLAN_T5_XL, FLAN_T5_XXL, HUB_BLIP2_XL, HUB_BLIP2_XXL)
}


@dataclass(frozen=True)
class Recipe:
    """The files that make a model of so many gigabytes; parts of files in `over` win."""

    what: str
    files: tuple[PublishedFile, ...]
    gigabytes: float
    over: tuple[PublishedFile, ...] = ()


# By size, the first one is the default.
RECIPES: dict[str, dict[str, Recipe]] = {
    "flant5xl": {
        "sevila": Recipe("SeViLA as published", (EVA, FLAN_T5_XL, SEVILA), 8.6),
        "blip2": Recipe("BLIP-2, where SeViLA's training starts", (EVA, FLAN_T5_XL, BLIP2_XL), 8.6),
        "hub": Recipe("SeViLA's prompters over the hub's BLIP-2", (HUB_BLIP2_XL,), 10.6, (SEVILA,)),
    },
    "flant5xxl": {
        "blip2": Recipe("BLIP-2, where SeViLA's training starts", (EVA, FLAN_T5_XXL, BLIP2_XXL), 25.2),
        "hub": Recipe("the hub's BLIP-2, where SeViLA's training starts", (HUB_BLIP2_XXL,), 27.2),
    },
}


def find_recipe(size: str, name: str | None) -> Recipe:
    """Return a recipe of a size, the default one for None; a ConfigError says that there is none."""
    if size not in RECIPES:
        raise ConfigError(f"nothing is published for {size!r}; {did_you_mean(size, [*RECIPES, *FILES])}")
    known = RECIPES[size]
    wanted = name or next(iter(known))
    if wanted not in known:
        raise ConfigError(f"no {wanted!r} weights for {size}; {did_you_mean(wanted, known)}")
    return known[wanted]


def fetch_file(
    file: PublishedFile,
    downloads: Path,
    *,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Bring a published file, or the folder of a hub model, to this machine unless it is there; `say` is told of it.

    Files with an address of their own go to `downloads`, those of the hub to its shared cache. Raises as `download`
    does.
    """
    if file.url:
        place = downloads / file.name
        if place.is_file():
            say(f"{file.name}: already in {downloads}")
            return place
        say(f"{file.name}: downloading from {file.url} (about {file.gigabytes} GB)")
        return download(file.url, place, progress=progress)
    repository = file.repository or file.name
    say(f"{file.name}: from huggingface.co/{repository} (about {file.gigabytes} GB unless cached)")
    if file.repository:
        return download_from_hub(repository, file.name)
    folder = download_from_hub(repository, "config.json").parent
    for name in TOKENIZER_FILES:
        download_from_hub(repository, name)
    try:
        names = index_entries(download_from_hub(repository, "model.safetensors.index.json"))
    except CheckpointError as error:
        if not isinstance(error.__cause__, EntryNotFoundError):
            raise
        names = ["model.safetensors"]  # a model in one file has no index
    for name in names:
        download_from_hub(repository, name)
    return folder


def fetch_model(
    size: str,
    recipe: Recipe,
    out: Path,
    *,
    downloads: Path,
    language_dtype: str = "bf16",
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Assembled:
    """Download a recipe's files and assemble the model folder `out`.

    Arguments are those of `fetch_file` and `convert`; downloaded files stay, and can be removed.

    Raises:
        CheckpointError: a download fails, or the files do not make the model.
        UserError: the disk has too little room, or the folder cannot be written to.
    """
    web_files = [file for file in (*recipe.files, *recipe.over) if file.url]
    _check_room(out, recipe.gigabytes)
    _check_room(downloads, sum(file.gigabytes for file in web_files if not (downloads / file.name).is_file()))
    paths = [fetch_file(file, downloads, progress=progress, say=say) for file in recipe.files]
    over = [fetch_file(file, downloads, progress=progress, say=say) for file in recipe.over]
    say(f"assembling {out}")
    return convert(paths, out, size=size, over=over, language_dtype=language_dtype)


def _check_room(folder: Path, gigabytes: float) -> None:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < gigabytes:
        raise UserError(
            f"{folder} needs {gigabytes:.1f} GB, but only {free:.1f} GB are free there; choose another disk"
        )
