"""LoRA adapters by peft: one for each role, on one frozen model.

An adapter whose weights still change nothing is left out of the computation, so a role that no stage has trained is
the model itself.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor

from lavis.common.errors import CheckpointError, ConfigError, MissingExtraError, did_you_mean, first_line
from lavis.models.base import LoRA
from lavis.models.precision import at_least_fp32

ROLES = ("localizer", "answerer")
# The attention of the language model, whatever a family calls it.
TARGETS = r".*(language|text)_model.*\.(q|k|v|o)_proj"
ADAPTER_FILE, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PEFT_PREFIX = "base_model.model."
# What peft knows beside plain LoRA, and what other tensors or another scale come of.
_PLAIN = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "bias", "modules_to_save", "lora_bias")


class Adapters:
    """The adapters of the roles, in the layers of one model.

    Args:
        model: of transformers; its layers are replaced in place.

    Raises:
        MissingExtraError: peft is not installed.
        ConfigError: no layer has a name of the pattern, or a value that cannot be.
    """

    def __init__(self, model: nn.Module, settings: LoRA) -> None:
        try:
            from peft import LoraConfig, inject_adapter_in_model
            from peft.tuners.lora import LoraLayer
        except ImportError as error:
            raise MissingExtraError("peft", "vlm") from error
        self.settings = {role: settings.of(role) for role in ROLES}
        self._model = model
        self._trains: frozenset[str] = frozenset()
        self._active: str | None = None
        self._split_changes: dict[str, bool] = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of there being several adapters
                for role, own in self.settings.items():
                    config = LoraConfig(
                        r=own.rank,
                        lora_alpha=cast("Any", own.alpha),  # peft's annotation says int, and it divides by the rank
                        lora_dropout=own.dropout,
                        target_modules=own.targets or TARGETS,
                    )
                    inject_adapter_in_model(config, model, adapter_name=role)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"model.lora with {settings.as_mapping()}: {first_line(error)}") from error
        self._layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
        for _, parameter in self.parameters():
            parameter.data = parameter.data.to(at_least_fp32(parameter.dtype))
        self.set_trainable(())

    def parameters(self, role: str | None = None) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of one adapter, or of all, with their names in the model."""
        for name, parameter in self._model.named_parameters():
            parts = name.split(".")
            if "lora_" in name and (parts[-2] in ROLES if role is None else parts[-2] == role):
                yield name, parameter

    def set_trainable(self, roles: Sequence[str]) -> None:
        """Let the adapters of these roles train; one that trains is active wherever no other is asked for."""
        self._trains = frozenset(roles)
        self._activate(roles[0] if roles else None)

    def dropouts(self) -> Iterator[nn.Module]:
        """Yield what drops out in training: parts of the adapters that train."""
        return (
            layer.lora_dropout[role] for layer in self._layers for role in self._trains if role in layer.lora_dropout
        )

    def changes(self, role: str) -> bool:
        """Tell whether a role's adapter trains, or has weights that change what the model computes."""
        if role in self._trains:
            return True
        second: list[Any] = [parameter for name, parameter in self.parameters(role) if "lora_B" in name]
        if not isinstance(second[0], DTensor):
            return any(bool(parameter.any()) for parameter in second)
        # Split over processes (FSDP), which all ask at the same time; weights that do not train stay as they are.
        if role not in self._split_changes:
            self._split_changes[role] = any(bool(parameter.full_tensor().any()) for parameter in second)
        return self._split_changes[role]

    def num_changes(self, role: str) -> int:
        """Return how often an adapter was changed in place, by an optimizer or by loading."""
        return sum(parameter._version for _, parameter in self.parameters(role))  # noqa: SLF001  # torch counts for autograd

    def used(self, role: str) -> AbstractContextManager[None]:
        """Return a block that is computed with a role's adapter."""
        return self._active_within(role if self.changes(role) else None)

    def as_now(self) -> AbstractContextManager[None]:
        """Return a block that is computed with the adapter that is active now, whenever it is entered."""
        return self._active_within(self._active)

    @contextmanager
    def _active_within(self, role: str | None) -> Iterator[None]:
        before = self._active
        if role != before:
            self._activate(role)
        try:
            yield
        finally:
            if role != before:
                self._activate(before)

    def _activate(self, role: str | None) -> None:
        self._active = role
        for layer in self._layers:
            layer.enable_adapters(role is not None)
            if role is not None:
                layer.set_adapter(role)
        # Both calls decide what trains, too.
        for name, parameter in self.parameters():
            parameter.requires_grad_(name.split(".")[-2] in self._trains)

    def save(self, folder: Path, role: str, *, base: str, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        """Save an adapter as peft does, so that `PeftModel.from_pretrained` loads it onto the base model.

        Args:
            base: where the base model came from.
            weights: to save in place of the model's, by their names in it.
        """
        held = {name: parameter.detach() for name, parameter in self.parameters(role)}
        for name in held:
            if weights is not None and name in weights:
                held[name] = weights[name]
        tensors = {
            _PEFT_PREFIX + name.replace(f".{role}.", "."): value.contiguous().cpu() for name, value in held.items()
        }
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})
        settings = {
            "peft_type": "LORA",
            "base_model_name_or_path": base,
            "r": self.settings[role].rank,
            "lora_alpha": self.settings[role].alpha,
            "lora_dropout": self.settings[role].dropout,
            "target_modules": self.settings[role].targets or TARGETS,
            "inference_mode": True,
        }
        (folder / ADAPTER_CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @torch.no_grad()
    def load(self, folder: Path, role: str) -> None:
        """Load an adapter that peft or `save` has written.

        Raises:
            CheckpointError: it is damaged, or of other layers, another rank or another scale.
        """
        for name in ("rank", "alpha"):
            if (theirs := getattr(lora_of(folder), name)) != (ours := getattr(self.settings[role], name)):
                raise CheckpointError(
                    f"the adapter at {folder} has {name} {theirs:g}, and the model's has {ours:g}; "
                    f"set model.lora.{role}.{name}={theirs:g}, as it was trained"
                )
        try:
            found = load_file(folder / ADAPTER_FILE)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"no adapter at {folder}: {first_line(error)}") from error
        own = {_PEFT_PREFIX + name.replace(f".{role}.", "."): parameter for name, parameter in self.parameters(role)}
        for name, value in found.items():
            if name not in own or own[name].shape != value.shape:
                raise CheckpointError(f"the adapter at {folder} does not fit the model: it has no {name} of this size")
        if missing := own.keys() - found.keys():
            raise CheckpointError(f"the adapter at {folder} does not fit the model: it lacks {min(missing)}")
        for name, value in found.items():
            own[name].copy_(value)


def lora_of(folder: Path) -> LoRA:
    """Return the settings of an adapter that peft has written.

    Raises:
        CheckpointError: there is none, or one of another kind.
    """
    try:
        content = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        if content["peft_type"] != "LORA":
            raise CheckpointError(f"the adapter at {folder} is of the kind {content['peft_type']}; only LoRA is read")
        if odd := [name for name in _PLAIN if content.get(name) not in (None, False, "none", {}, [])]:
            raise CheckpointError(f"the adapter at {folder} has {odd[0]}, which is not read; train one without it")
        targets = content["target_modules"]
        pattern = targets if isinstance(targets, str) else rf".*\.({'|'.join(sorted(targets))})"
        return LoRA(int(content["r"]), float(content["lora_alpha"]), float(content["lora_dropout"]), pattern)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"no adapter at {folder}: {first_line(error)}") from error


def check_role(role: str) -> None:
    """Refuse what is no role.

    Raises:
        ConfigError: neither "localizer" nor "answerer".
    """
    if role not in ROLES:
        raise ConfigError(f"cannot train {role!r}; {did_you_mean(role, ROLES)}")
