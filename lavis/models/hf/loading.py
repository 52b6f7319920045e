"""Loading image-text models from the hub or a folder, and saving what was trained of them.

Nothing of a model's folder is run unless the caller trusts its code: transformers' own classes are used, weights are
safetensors, and what a configuration says of kernels to be fetched is not followed.

What is trained is saved as `config.json`, which names the base model, and a folder for each adapter as peft writes it.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lavis.common.config import from_mapping
from lavis.common.errors import CheckpointError, ConfigError, MissingExtraError
from lavis.common.files import read_json
from lavis.models.base import KnownWeights, LoRA
from lavis.models.checkpoints.from_transformers import explained_loading, quiet_unless_watched
from lavis.models.checkpoints.weights_io import read_weights
from lavis.models.hf.adapters import ADAPTER_CONFIG, ROLES, Adapters, lora_of
from lavis.models.hf.known import KNOWN, PROCESSOR_FILES, is_on_hub
from lavis.models.machine import explained_misfit
from lavis.models.precision import dtype_named

if TYPE_CHECKING:
    from typing_extensions import Self

    from lavis.models.hf.backbone import Backbone


@dataclass(frozen=True)
class HFConfig:
    """What a model was made of.

    Attributes:
        name: for people.
        base: short name, name on the hub, or folder.
        frame_tokens: see `lavis.models.hf.backbone.set_frame_tokens`.
        lora: settings of its adapters; None where it has none.
    """

    name: str
    base: str
    frame_tokens: int | None = None
    lora: dict[str, Any] | None = None
    weights: KnownWeights = field(default_factory=KnownWeights)
    # Prepared pixels are pictures: each family's processor does the rest.
    image_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    image_std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def as_json(self) -> str:
        """Return the text of `config.json` beside saved adapters."""
        known = {"arch": "hf", "base": self.base, "frame_tokens": self.frame_tokens, "lora": self.lora}
        return json.dumps(known, indent=2) + "\n"


class PretrainedHF(nn.Module):
    """What `HFModel` inherits: how it is loaded and saved."""

    network: Any
    backbone: "Backbone"
    config: HFConfig
    adapters: Adapters | None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        dtype: str = "fp32",
        device: str = "cpu",
        frame_tokens: int | None = None,
        trust_remote_code: bool = False,
        lora: Mapping[str, Any] | None = None,
    ) -> "Self":
        """Load a model in eval mode, frozen.

        Args:
            source: a short name (`lavis.models.hf.known`), a name on the hub, a folder of a model, or one that
                `save_pretrained` has written.
            frame_tokens: tokens of a frame, at most, where the model's processor can be told.
            trust_remote_code: run the code that the model's folder brings.
            lora: settings of adapters to train; see `lavis.models.base.LoRA`.

        Raises:
            CheckpointError: nothing there, or files that are damaged or of no such model.
            MissingExtraError: a package is missing.
            ConfigError: an unknown dtype, or a setting that the model does not take.
        """
        dtype_named(dtype)
        saved = _saved_here(Path(source))
        base = str(source) if saved is None else str(saved["base"])
        if Path(base).is_dir():
            base = str(Path(base).resolve())  # adapters name it, wherever they are loaded from
        if frame_tokens is None and saved is not None:
            frame_tokens = saved["frame_tokens"]
        model = cls._of(base, dtype=dtype, frame_tokens=frame_tokens, trust_remote_code=trust_remote_code)
        settings = dict(lora) if lora is not None else (saved or {}).get("lora")
        if settings is not None:
            model.add_adapters(settings)
        if saved is not None:
            model.load_partial(source)
        return model.to(device).eval()

    @classmethod
    def _of(cls, base: str, *, dtype: str, frame_tokens: int | None, trust_remote_code: bool) -> "Self":
        network, processor = load_from_transformers(base, dtype=dtype_named(dtype), trust_remote_code=trust_remote_code)
        name = base if base in KNOWN or is_on_hub(base) else Path(base).resolve().name
        kind: Any = cls
        return kind(
            network=network, processor=processor, config=HFConfig(name=name, base=base, frame_tokens=frame_tokens)
        )

    def add_adapters(self, settings: Mapping[str, Any]) -> None:
        """Give each role an adapter, which changes nothing until it is trained or loaded.

        Raises:
            ConfigError: a setting that cannot be.
            MissingExtraError: peft is not installed.
        """
        made = from_mapping(LoRA, settings, place="model.lora")
        self.adapters = Adapters(self.network, made)
        self.config = replace(self.config, lora=made.as_mapping())
        self.set_trainable(())

    @abstractmethod
    def set_trainable(self, roles: Sequence[str]) -> None:
        """Let the adapters of these roles train, and freeze everything else."""

    def save_pretrained(self, folder: str | Path, *, parts: Sequence[str] | None = None) -> None:
        """Save the adapters, or those of some roles; the base model stays where it came from."""
        if self.adapters is None:
            raise ConfigError(f"{self.config.name} has no adapters to save")
        self.save_trained(Path(folder), {}, roles=parts or ROLES)
        (Path(folder) / "config.json").write_text(self.config.as_json(), encoding="utf-8")

    def save_trained(
        self, folder: Path, weights: Mapping[str, torch.Tensor], *, roles: Sequence[str] | None = None
    ) -> None:
        """Write adapters beside the weights of a run, in peft's format.

        Args:
            weights: what trained, by the names of `trainable_parameters`; others are the model's own.
            roles: None is those that `weights` are of.
        """
        if self.adapters is None:
            return
        named = {name.removeprefix("network."): value for name, value in weights.items()}
        for role in roles or [role for role in ROLES if any(f".{role}." in name for name in named)]:
            self.adapters.save(folder / role, role, base=repository(self.config.base), weights=named)

    @torch.no_grad()
    def load_partial(self, path: str | Path) -> list[str]:
        """Load adapters: a folder that a run or `save_pretrained` wrote, or that of one adapter, named for its role.

        Returns:
            The roles that were there.

        Raises:
            CheckpointError: nothing there, damaged, or adapters that do not fit the model.
        """
        folder = Path(path)
        if not folder.exists():
            raise CheckpointError(f"no weights at {folder}; give the folder `best` of a run, or of an adapter")
        if folder.is_file():
            return self.load_weights(read_weights(folder), place=folder)
        found = {role: folder / role for role in ROLES if (folder / role / ADAPTER_CONFIG).is_file()}
        if not found and (folder / ADAPTER_CONFIG).is_file():
            if folder.name not in ROLES:
                raise CheckpointError(
                    f"cannot tell the role of the adapter at {folder}; name the folder {' or '.join(ROLES)}"
                )
            found = {folder.name: folder}
        if not found:
            file = folder / "model.safetensors"
            if not file.is_file():
                raise CheckpointError(f"no adapters at {folder}; give the folder `best` of a run, or of an adapter")
            return self.load_weights(read_weights(file), place=file)
        if self.adapters is None:
            own = {role: lora_of(place) for role, place in found.items()}
            first = next(iter(own.values()))
            apart = {role: one.as_mapping() for role, one in own.items() if one != first}
            self.add_adapters({**first.as_mapping(), **apart})
        assert self.adapters is not None
        for role, place in found.items():
            self.adapters.load(place, role)
        return sorted(found)

    @torch.no_grad()
    def load_weights(self, weights: Mapping[str, torch.Tensor], *, place: str | Path) -> list[str]:
        """Put weights of adapters over those of the model, by name; returns and raises as `load_partial`."""
        if weights and self.adapters is None:
            raise CheckpointError(f"{place} does not say what its adapters are; set model.lora as they were trained")
        parameters = dict(self.named_parameters())
        for name, value in weights.items():
            if name not in parameters or parameters[name].shape != value.shape:
                raise CheckpointError(
                    f"{place} does not fit the model {self.config.name}: it has no {name} of this size; "
                    "set model.lora as it was trained"
                )
            parameters[name].copy_(value)
        return sorted({role for role in ROLES for name in weights if f".{role}." in name})

    @classmethod
    def sizes(cls) -> list[str]:
        """Return the short names."""
        return sorted(KNOWN)

    @classmethod
    def check_weights(cls, source: str | Path, *, partial: Sequence[Path] = ()) -> None:
        """Make sure that there are adapters to load; the base is looked for when it is loaded."""
        del source
        for path in partial:
            if not path.exists():
                raise CheckpointError(f"no weights at {path}; give the folder `best` of a run, or of an adapter")

    @classmethod
    def describe(cls, source: str | Path) -> dict[str, Any]:
        """Say what a source holds, without loading it."""
        known = KNOWN.get(str(source))
        return {
            "name": str(source),
            "parameters": int(known.billions * 1e9) if known else None,
            "weights": known.repository if known else str(source),
            "status": "trained",
            "note": "",
            **(known.facts if known else {}),
        }


def load_from_transformers(source: str, *, dtype: torch.dtype, trust_remote_code: bool = False) -> tuple[Any, Any]:
    """Load a model and its processor; arguments and errors as for `PretrainedHF.from_pretrained`."""
    require_packages()
    with explained_misfit():
        from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    place = repository(source)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    way = "runs only with --trust-remote-code"
    with explained_loading(source, way_to_its_code=way), quiet_unless_watched():
        config = AutoConfig.from_pretrained(place, **options)
        if type(config) not in AutoModelForImageTextToText._model_mapping and not trust_remote_code:  # noqa: SLF001
            raise CheckpointError(
                f"{source} is no image-text model of transformers: its model_type is {config.model_type!r}; "
                "name another, such as smolvlm2-500m"
            )
        _check_files(Path(place))
        # Named here, a kernel that a configuration asks for is not fetched.
        options |= {"config": config, "dtype": dtype, "use_safetensors": True}
        try:
            network = AutoModelForImageTextToText.from_pretrained(place, attn_implementation="sdpa", **options)
        except ValueError as error:
            if "scaled_dot_product" not in str(error):
                raise
            network = AutoModelForImageTextToText.from_pretrained(place, attn_implementation="eager", **options)
        processor = AutoProcessor.from_pretrained(place, trust_remote_code=trust_remote_code)
    for part in ("image_processor", "tokenizer"):
        if not hasattr(processor, part):
            raise CheckpointError(f"{source} has no {part.replace('_', ' ')}; its folder is incomplete")
    return network.eval(), processor


def _check_files(folder: Path) -> None:
    """Make sure that a model's folder on this machine has what reads pictures and texts."""
    for names in (PROCESSOR_FILES, ("tokenizer.json", "tokenizer_config.json")):
        if folder.is_dir() and not any((folder / name).is_file() for name in names):
            raise CheckpointError(
                f"{folder} has no {' or '.join(names)}; save the model's processor there too (save_pretrained)"
            )


def repository(base: str) -> str:
    """Return the name on the hub of a short name; other names as they are."""
    return KNOWN[base].repository if base in KNOWN else base


def require_packages() -> None:
    """Make sure that what image-text models need is installed.

    Raises:
        MissingExtraError: a package of the extra `vlm` is not.
    """
    for package in ("torchvision", "num2words"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "vlm")


def _saved_here(folder: Path) -> dict[str, Any] | None:
    """Return what `save_pretrained` has written of a folder, or None."""
    try:
        content = read_json(folder / "config.json")
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("arch") == "hf" else None
