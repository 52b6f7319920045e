"""Reading configurations: YAML files, dotted overrides, and strict conversion to dataclasses."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lavis.common.errors import ConfigError, did_you_mean
from lavis.common.registry import registry

T = TypeVar("T")

# What YAML and OmegaConf raise for content that is no configuration: besides their own errors, nesting without end,
# whole numbers of thousands of digits, half surrogate pairs, brackets in keys, and a number at the top.
_MALFORMED = (OmegaConfBaseException, YAMLError, ValueError, TypeError, LookupError, OSError, RecursionError)
_SHOWN_CHARACTERS = 300
_MOST_VALUES = 100_000
# Characters. YAML is read at about 20,000 a second, and several times.
_LONGEST_FILE = 200_000


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file and resolve its interpolations.

    Raises:
        ConfigError: the file is missing or not a YAML mapping.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"no configuration file at {file}")
    try:
        _check_size(file)
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except _MALFORMED as error:
        raise ConfigError(f"{file}: {_in_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: a mapping is needed at the top, not a {type(content).__name__}")
    return typing.cast("dict[str, Any]", content)


def _check_size(file: Path) -> None:
    """Refuse a file that is long, or whose aliases multiply: half a kilobyte can stand for millions of values.

    Only newer versions of OmegaConf look for the latter themselves.
    """
    if file.stat().st_size > _LONGEST_FILE:
        raise ConfigError(f"{file}: has more than {_LONGEST_FILE:,} characters; give a smaller configuration")
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 0))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(event.anchor, 0)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        outer, before = open_nodes.pop()
        open_nodes.append((outer, before + size))
        if before + size > _MOST_VALUES:
            raise ConfigError(f"{file}: stands for more than {_MOST_VALUES:,} values; give a smaller configuration")


def parsed_options(options: Sequence[str]) -> dict[str, Any]:
    """Return dotted options such as "model.frame_num=4" as a mapping; interpolations are left as they are.

    Raises:
        ConfigError: an option cannot be read.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.from_dotlist(list(options)), resolve=False)
    except _MALFORMED as error:
        raise ConfigError(f"options {_cut(' '.join(' '.join(options).split()))}: {_in_one_line(error)}") from error
    return typing.cast("dict[str, Any]", content)


def merged(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lay mappings over each other, later ones winning key by key.

    Raises:
        ConfigError: they do not go together; the message names the last one, which options are.
    """
    try:
        config = OmegaConf.merge(*map(OmegaConf.create, map(dict, layers)))
        return typing.cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    except _MALFORMED as error:
        raise ConfigError(f"options {_cut(' '.join(str(layers[-1]).split()))}: {_in_one_line(error)}") from error


def section_of(settings: Mapping[str, Any], name: str, *, place: str) -> dict[str, Any]:
    """Return a section by its keys' names; a missing one is empty.

    Raises:
        ConfigError: it is no mapping.
    """
    section = settings.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{place}: {name}: a mapping is needed, not {_cut(repr(section))}")
    return {str(key): value for key, value in section.items()}


def import_plugins(*layers: Mapping[str, Any]) -> None:
    """Import the modules of `run.imports`, as the last of the layers that has it says, before other names are checked.

    Raises:
        ConfigError: there is no such module, or it cannot be imported.
    """
    sections = [layer["run"] for layer in layers if isinstance(layer.get("run"), Mapping)]
    named = [section["imports"] for section in sections if "imports" in section]
    if named and isinstance(named[-1], list) and all(isinstance(name, str) for name in named[-1]):
        registry.import_modules(named[-1], place="run.imports")


def from_mapping(kind: type[T], mapping: Mapping[str, Any], *, place: str) -> T:
    """Make a dataclass from a mapping, refusing keys it does not have and values that cannot be.

    Args:
        place: where the mapping came from, for messages.

    Raises:
        ConfigError: unknown or missing key, or a value of the wrong type or beyond its field's limits.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{place}: a mapping is needed, not {_cut(repr(mapping))}")
    fields = {entry.name: entry for entry in dataclasses.fields(typing.cast("Any", kind))}
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in mapping:
        if key not in fields:
            raise ConfigError(f"{place}: unknown key {key!r}; {did_you_mean(str(key), fields)}")
    for name, entry in fields.items():
        needed = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if needed and name not in mapping:
            raise ConfigError(f"{place}: the key {name!r} is missing")
    return kind(**{key: _convert(value, hints[key], place=place, key=key) for key, value in mapping.items()})


def effect_of(kind: Any, key: str) -> str:
    """Return what depends on a setting of a dataclass, by its dotted key.

    It is "predictions", unless the annotation of its field, or of one around it, is `TrainingOnly` or `NoEffect`.
    """
    for name in key.split("."):
        hint = typing.get_type_hints(kind, include_extras=True).get(name)
        found = [mark.affects for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, _Effect)]
        if found:
            return str(found[0])
        if not dataclasses.is_dataclass(hint):
            break
        kind = hint
    return "predictions"


def _convert(value: Any, wanted: Any, *, place: str, key: str) -> Any:
    """Check a value against its annotation, turning mappings into dataclasses and lists into tuples."""
    if wanted is Any:
        return value
    if dataclasses.is_dataclass(wanted):
        return from_mapping(typing.cast("type[Any]", wanted), value, place=_within(place, key))
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return _limited(_convert(value, arguments[0], place=place, key=key), arguments[1:], _within(place, key))
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(kind for kind in arguments if kind is not type(None)), place=place, key=key)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            raise ConfigError(f"{place}: {key}: {len(kinds)} values are needed, not {len(value)}")
        return tuple(_convert(item, kind, place=place, key=key) for item, kind in zip(value, kinds, strict=True))
    return _plain(value, origin or wanted, place=f"{place}: {key}")


def _plain(value: Any, kind: type, *, place: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ConfigError(f"{place}: {_cut(repr(value))} is too large a number") from error
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{place}: {kind.__name__} is needed, not {_cut(repr(value))}")
    return value


def _limited(value: Any, limits: Sequence[Any], name: str) -> Any:
    """Hold a value against the limits of its field; no number may be infinite."""
    problems = [problem for limit in limits if (problem := limit.problem(value))]
    if not problems and isinstance(value, float) and not math.isfinite(value):
        problems = [f" is {value}; it must be a finite number"]
    if problems:
        raise ConfigError(f"{name}{_cut(problems[0])}")
    return value


def _within(place: str, key: str) -> str:
    """Name a setting as options do where the place is a section, such as "run", and after the place otherwise."""
    return f"{place}.{key}" if place.replace(".", "").isidentifier() else f"{place}: {key}"


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply to be a configuration"
    return _cut(" ".join(str(error).split()))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


# The longest time to wait that can be counted in microseconds everywhere: about four months.
MAX_WAIT_S = 1e7


@dataclass(frozen=True)
class Limit:
    """A condition on a value.

    Attributes:
        says: ends the sentence "it must be ...".
    """

    says: str
    holds: Callable[[Any], bool]

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, to follow the setting's name; None if nothing is."""
        return None if self.holds(value) else f" is {value!r}; it must be {self.says}"


@dataclass(frozen=True)
class OneOf:
    """A choice between names.

    Attributes:
        names: asked when a value is checked, so that parts which are registered later count too.
    """

    names: Callable[[], Iterable[str]]

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, to follow the setting's name; None if nothing is."""
        known = tuple(self.names())
        return None if value in known else f": unknown {value!r}; {did_you_mean(value, known)}"


def one_of(*names: str) -> OneOf:
    """Return a choice between names that are known now."""
    return OneOf(lambda: names)


def between(least: float, most: float) -> Limit:
    """Return the limit of a range, both ends included."""
    return Limit(f"from {least} to {most}", lambda value: least <= value <= most)


Count = Annotated[int, Limit("1 or more", lambda value: value >= 1)]
NotNegativeInt = Annotated[int, Limit("0 or more", lambda value: value >= 0)]
NotNegative = Annotated[float, Limit("0 or more", lambda value: value >= 0)]
Finite = Annotated[float, Limit("a finite number", math.isfinite)]
Positive = Annotated[float, Limit("above 0", lambda value: value > 0)]
Share = Annotated[float, between(0, 1)]
Decay = Annotated[float, Limit("from 0 to below 1", lambda value: 0 <= value < 1)]
Text = Annotated[str, Limit("some text", lambda value: bool(value.strip()))]


@dataclass(frozen=True)
class _Effect:
    affects: str

    def problem(self, _: Any) -> None:
        """Allow every value."""


# Settings that predictions do not depend on, and those of them that a resumed run may also change.
TrainingOnly = Annotated[T, _Effect("training")]
NoEffect = Annotated[T, _Effect("nothing")]
