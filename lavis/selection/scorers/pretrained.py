"""Networks of transformers that scorers compute with.

They are loaded with transformers' own classes from safetensors; nothing of a stranger's folder is run. Pictures are
prepared by Pillow, which needs no torchvision and is the same everywhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from lavis.common.errors import CheckpointError, ConfigError, did_you_mean
from lavis.common.types import FrameBatch, Integers
from lavis.models.checkpoints.from_transformers import explained_loading, quiet_unless_watched
from lavis.models.fingerprint import digest
from lavis.models.frames import FrameEncoder
from lavis.models.machine import explained_misfit, usable_device
from lavis.models.precision import dtype_named
from lavis.selection.scorers.common import check_query

# Networks that stay in memory, so that asking again, or about the next video, does not load again.
_MOST_LOADED = 2


class Pretrained(nn.Module):
    """A network with its image processor and tokenizer, frozen.

    Attributes:
        encoder: from frames to what questions are compared with.
    """

    def __init__(self, network: Any, images: Any, tokenizer: Any, *, name: str) -> None:
        super().__init__()
        for parameter in network.parameters():
            parameter.requires_grad = False
        self.network, self.images, self.tokenizer = network, images, tokenizer
        self.name = name
        self.encoder = FrameEncoder(f"{type(self).__name__} {name}", self.encode, takes_prepared=False)
        # A tokenizer remembers how it was last called, so that it is described before it is.
        spelling: str = tokenizer.backend_tokenizer.to_str()
        self._facts = {"images": images.to_dict(), "tokenizer": spelling, "config": network.config.to_json_string()}
        limit = network.config.text_config.max_position_embeddings
        self._most_tokens = min(int(limit), int(tokenizer.model_max_length))

    @classmethod
    @abstractmethod
    def load(cls, place: str, **options: Any) -> tuple[Any, Mapping[str, Any]]:
        """Load the network: return it, and what transformers says of the loading."""

    @abstractmethod
    def encode(self, batch: FrameBatch) -> torch.Tensor:
        """Return what is kept of frames: [N, ...]."""

    def pixels(self, pictures: npt.NDArray[np.uint8]) -> dict[str, torch.Tensor]:
        """Prepare pictures [N, H, W, 3] as the network takes them."""
        made = self.images(images=[Image.fromarray(one) for one in pictures], return_tensors="pt")
        device, dtype = self.network.device, self.network.dtype
        return {
            key: value.to(device, dtype if value.is_floating_point() else value.dtype) for key, value in made.items()
        }

    def pieces(self, text: str, *, padded: bool) -> dict[str, torch.Tensor]:
        """Return the tokens of a text: [P, L], of which a long one has several pieces, each as long as is read at once.

        Args:
            padded: to the longest that is read, as SigLIP was trained.
        """
        made = self.tokenizer(
            text,
            truncation=True,
            max_length=self._most_tokens,
            return_overflowing_tokens=True,
            padding="max_length" if padded else "longest",
            return_tensors="pt",
        )
        names = ("input_ids", "attention_mask")
        return {name: made[name].to(self.network.device) for name in names if name in made}

    def fingerprint(self) -> str:
        """Return a digest of all that scores depend on: weights, precision, tokenizer, how pictures are prepared."""
        return digest(self._facts, {"network": self.network})


class PretrainedScorer(ABC):
    """A scorer that computes with such a network.

    Args:
        model: a short name, a name on the hub, or a folder; None is `default`.
        query: which text of a question is read: "question_and_options", or "question" alone.
        device: None is where the model that answers computes.
        dtype: "fp32", "bf16" or "fp16".

    Raises:
        ConfigError: an unknown short name, query, device or dtype, or a folder that holds no model.
    """

    default: ClassVar[str]
    short_names: ClassVar[Mapping[str, str]]
    kind: ClassVar[type[Pretrained]]

    def __init__(
        self,
        *,
        model: str | None = None,
        query: str = "question_and_options",
        device: str | None = None,
        dtype: str = "fp32",
    ) -> None:
        check_query(query)
        dtype_named(dtype)
        if device is not None:
            usable_device(device)
        self._place = _place_of(self.default if model is None else str(model), self.short_names)
        self._query, self._device, self._dtype = query, device, dtype
        self._loaded: Any = None

    def load(self, device: str | torch.device) -> None:
        """Load the network, unless it is there.

        Args:
            device: where it computes, if the scorer was not told.

        Raises:
            CheckpointError: nothing there, files that are damaged, or another kind of model.
        """
        if self._loaded is None:
            where = torch.device(self._device or device)
            kind: Any = self.kind
            self._loaded = _loaded(kind, self._place, self._dtype, where, _stamp(self._place))

    @property
    def _network(self) -> Any:
        self.load("cpu")
        return self._loaded


@lru_cache(maxsize=_MOST_LOADED)
def _loaded(
    kind: type[Pretrained], place: str, dtype: str, device: torch.device, stamp: tuple[tuple[str, int, int], ...]
) -> Pretrained:
    """Load a network; `stamp` tells apart what lay in the same folder at other times."""
    del stamp
    with explained_misfit():
        from transformers import AutoImageProcessor
    options = {"dtype": dtype_named(dtype), "use_safetensors": True}
    with explained_loading(place, way_to_its_code="is not run here; name another model"), quiet_unless_watched():
        network, info = kind.load(place, **options)
        if info["missing_keys"]:
            raise CheckpointError(
                f"{place} has no weights for {sorted(info['missing_keys'])[0]}; its files are damaged, or of another "
                "kind of model"
            )
        images = AutoImageProcessor.from_pretrained(place, backend="pil", trust_remote_code=False)
        tokenizer = _tokenizer(place)
        made = kind(network, images, tokenizer, name=Path(place).name)
    return made.to(device).eval()


def config_of(place: str) -> Any:
    """Return the configuration of a model."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(place, trust_remote_code=False)


def load_network(kind: Any, place: str, **options: Any) -> tuple[Any, Mapping[str, Any]]:
    """Load a network by a class of transformers: return it, and what is said of the loading."""
    # Named here, a kernel that a configuration asks for is not fetched.
    options = {"trust_remote_code": False, "output_loading_info": True, **options}
    try:
        loaded: tuple[Any, Mapping[str, Any]] = kind.from_pretrained(place, attn_implementation="sdpa", **options)
    except ValueError as error:
        if "scaled_dot_product" not in str(error):
            raise
        loaded = kind.from_pretrained(place, attn_implementation="eager", **options)
    return loaded


def _tokenizer(place: str) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except ImportError:  # SigLIP's own class needs sentencepiece; the file beside it says the same
        return PreTrainedTokenizerFast.from_pretrained(place)


def _place_of(model: str, short_names: Mapping[str, str]) -> str:
    """Return the name on the hub, or the folder.

    Raises:
        ConfigError: there is neither.
    """
    if model in short_names:
        return short_names[model]
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"no model in {folder}: it has no config.json; name the folder of a saved model")
        return str(folder.resolve())
    owner, _, name = model.partition("/")
    if not owner or not name or "/" in name or owner in (".", "..", "~"):
        raise ConfigError(
            f"unknown model {model!r}; {did_you_mean(model, short_names)}; or give a folder, or OWNER/NAME on the hub"
        )
    return model


def _stamp(place: str) -> tuple[tuple[str, int, int], ...]:
    if not Path(place).is_dir():
        return ()
    files = [(file.name, file.stat()) for file in sorted(Path(place).iterdir())]
    return tuple((name, one.st_size, one.st_mtime_ns) for name, one in files)


def parts_of(positions: Integers, size: int) -> list[Integers]:
    """Cut positions into parts of a size, at most."""
    return [positions[start : start + size] for start in range(0, len(positions), size)]
