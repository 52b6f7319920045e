"""Reading configurations: YAML files, dotted overrides, and strict conversion to dataclasses."""

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lavis.common.errors import ConfigError
from lavis.common.naming import did_you_mean

T = TypeVar("T")

# What YAML and OmegaConf raise for content that is no configuration: besides their own errors, nesting without end,
# whole numbers of thousands of digits, half surrogate pairs, brackets in keys, and a number at the top.
_MALFORMED = (OmegaConfBaseException, YAMLError, ValueError, TypeError, LookupError, OSError, RecursionError)
_SHOWN_CHARACTERS = 300


def load_yaml(path: str | Path, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file, apply dotted overrides such as "model.frame_num=4", resolve interpolations.

    Raises:
        ConfigError: the file is missing or not a YAML mapping, or an override cannot be applied.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"no configuration file at {file}")
    try:
        content = OmegaConf.load(file)
        is_mapping = isinstance(content, DictConfig)
        merged = OmegaConf.merge(content, OmegaConf.from_dotlist(list(overrides))) if is_mapping else content
        resolved = OmegaConf.to_container(merged, resolve=True)
    except _MALFORMED as error:
        raise ConfigError(f"{file}: {_in_one_line(error)}") from error
    if not isinstance(resolved, dict):
        raise ConfigError(f"{file}: a mapping is needed at the top, not a {type(resolved).__name__}")
    return typing.cast("dict[str, Any]", resolved)


def merged(layers: Sequence[Mapping[str, Any]], *, options: Sequence[str] = ()) -> dict[str, Any]:
    """Lay mappings over each other, later ones winning key by key, and dotted options over all of them.

    Raises:
        ConfigError: an option cannot be applied.
    """
    try:
        config = OmegaConf.merge(*map(OmegaConf.create, map(dict, layers)), OmegaConf.from_dotlist(list(options)))
        return typing.cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    except _MALFORMED as error:
        raise ConfigError(f"options {_cut(' '.join(' '.join(options).split()))}: {_in_one_line(error)}") from error


def from_mapping(kind: type[T], mapping: Mapping[str, Any], *, place: str) -> T:
    """Make a dataclass from a mapping, refusing keys it does not have and values of the wrong type.

    Args:
        place: where the mapping came from, for messages.

    Raises:
        ConfigError: unknown or missing key, or a value of the wrong type.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{place}: a mapping is needed, not {_cut(repr(mapping))}")
    fields = {entry.name: entry for entry in dataclasses.fields(typing.cast("Any", kind))}
    hints = typing.get_type_hints(kind)
    for key in mapping:
        if key not in fields:
            raise ConfigError(f"{place}: unknown key {key!r}; {did_you_mean(str(key), fields)}")
    for name, entry in fields.items():
        needed = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if needed and name not in mapping:
            raise ConfigError(f"{place}: the key {name!r} is missing")
    return kind(**{key: _convert(value, hints[key], place=f"{place}: {key}") for key, value in mapping.items()})


def _convert(value: Any, wanted: Any, *, place: str) -> Any:
    """Check a value against its annotation, turning mappings into dataclasses and lists into tuples."""
    if wanted is Any:
        return value
    if dataclasses.is_dataclass(wanted):
        return from_mapping(typing.cast("type[Any]", wanted), value, place=place)
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(kind for kind in arguments if kind is not type(None)), place=place)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ConfigError(f"{place}: {len(kinds)} values are needed, not {len(value)}")
        return tuple(_convert(item, kind, place=place) for item, kind in zip(value, kinds, strict=True))
    plain = origin or wanted
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise ConfigError(f"{place}: {plain.__name__} is needed, not {_cut(repr(value))}")
    return value


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply to be a configuration"
    return _cut(" ".join(str(error).split()))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
