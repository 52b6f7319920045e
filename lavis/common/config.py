"""Reading configurations: YAML files, dotted overrides, and strict conversion to dataclasses."""

import dataclasses
import json
import math
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, TypeAdapter, ValidationError
from yaml import YAMLError

from lavis.common.errors import ConfigError, did_you_mean
from lavis.common.registry import Registry, registry

if typing.TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")

_adapter = lru_cache(maxsize=64)(TypeAdapter)
# What YAML and OmegaConf raise for content that is no configuration: besides their own errors, nesting without end,
# whole numbers of thousands of digits, half surrogate pairs, brackets in keys, and a number at the top.
_MALFORMED = (OmegaConfBaseException, YAMLError, ValueError, TypeError, LookupError, OSError, RecursionError)
_SHOWN_CHARACTERS = 300
_MOST_VALUES = 100_000
# Characters. YAML is read at about 20,000 a second, and several times.
_LONGEST_FILE = 200_000
_UNKNOWN_KEY = "unexpected_keyword_argument"


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


def typed_spec(text: str, *, place: str) -> Any:
    """Read a part (`place`) as it is typed: a name, or YAML such as "{name: uniform, offset: 2}".

    Raises:
        ConfigError: it begins as YAML and is none.
    """
    if not text.startswith("{"):
        return text
    try:
        return yaml.safe_load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{place} {text:.80}: {' '.join(str(error).split())[:200]}") from error


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
    """Return a section by its keys' names, empty where it is missing; a ConfigError refuses what is no mapping."""
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
    """Make a dataclass from a mapping found at `place`, refusing keys it does not have and values that cannot be.

    It is as strict as pydantic is with JSON: lists become tuples, mappings dataclasses and whole numbers floats, where
    the annotations say so; nothing else is converted.

    Raises:
        ConfigError: unknown or missing key, or a value of the wrong type or beyond its field's limits.
    """
    try:
        adapter: TypeAdapter[T] = _adapter(typing.cast("Any", kind))
        return adapter.validate_json(json.dumps(mapping), strict=True, extra="forbid")
    except ValidationError as error:
        # A missing key may be among the unknown ones, misspelt.
        first = min(error.errors(include_url=False), key=lambda found: found["type"] != _UNKNOWN_KEY)
        raise ConfigError(_in_words(first, kind, place)) from error
    except _MALFORMED as error:  # YAML can hold what JSON cannot, such as bytes
        raise ConfigError(f"{place}: {_in_one_line(error)}") from error


def _in_words(error: "ErrorDetails", kind: Any, place: str) -> str:
    """Return the line that tells the first problem that pydantic found in a mapping for `kind`."""
    *outer, key = [name for name in error["loc"] if isinstance(name, str)] or [""]  # "" is the mapping itself
    for name in outer:
        place = _within(place, name)
        hint = typing.get_type_hints(kind)[name]
        kind = next(part for part in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(part))
    problem, given = error["type"], _cut(repr(error["input"]))
    if problem == _UNKNOWN_KEY:
        return f"{place}: unknown key {key!r}; {did_you_mean(key, [entry.name for entry in dataclasses.fields(kind)])}"
    if problem == "missing" and error["loc"][-1] == key:
        return f"{place}: the key {key!r} is missing"
    if problem == "value_error":
        return f"{_within(place, key)}{_cut(str(error['ctx']['error']))}"
    if problem == "dataclass_type":
        return f"{_within(place, key)}: a mapping is needed, not {given}"
    if not problem.endswith("_type"):
        return f"{_within(place, key)}: {error['msg']}: {given}"
    return f"{place}: {key}: {problem.removesuffix('_type').replace('string', 'str')} is needed, not {given}"


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


def _within(place: str, key: str) -> str:
    """Name a setting as options do where the place is a section, such as "run", and after the place otherwise."""
    if not key:
        return place
    return f"{place}.{key}" if place.replace(".", "").isidentifier() else f"{place}: {key}"


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply to be a configuration"
    return _cut(" ".join(str(error).split()))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


# The longest time to wait that can be counted in microseconds everywhere: about four months.
MAX_WAIT_S = 1e7


def limit(says: str, holds: Callable[[Any], bool]) -> AfterValidator:
    """Return a condition on a field, for its annotation: "it must be {says}"; no number may be infinite."""

    def checked(value: T) -> T:
        if not holds(value):
            raise ValueError(f" is {value!r}; it must be {says}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f" is {value}; it must be a finite number")
        return value

    return AfterValidator(checked)


def between(least: float, most: float) -> AfterValidator:
    """Return the limit of a range, both ends included."""
    return limit(f"from {least} to {most}", lambda value: least <= value <= most)


def one_of(*names: str) -> AfterValidator:
    """Return a choice between names."""
    return _choice(lambda: names)


def registered(parts: Registry[Any]) -> AfterValidator:
    """Return a choice between the names of a registry, also those that are registered later."""
    return _choice(parts.names)


def _choice(names: Callable[[], Iterable[str]]) -> AfterValidator:
    def checked(value: str) -> str:
        known = tuple(names())
        if value not in known:
            raise ValueError(f": unknown {value!r}; {did_you_mean(value, known)}")
        return value

    return AfterValidator(checked)


Count = Annotated[int, limit("1 or more", lambda value: value >= 1)]
NotNegativeInt = Annotated[int, limit("0 or more", lambda value: value >= 0)]
NotNegative = Annotated[float, limit("0 or more", lambda value: value >= 0)]
Finite = Annotated[float, limit("a finite number", math.isfinite)]
Positive = Annotated[float, limit("above 0", lambda value: value > 0)]
Share = Annotated[float, between(0, 1)]
Decay = Annotated[float, limit("from 0 to below 1", lambda value: 0 <= value < 1)]
Text = Annotated[str, limit("some text", lambda value: bool(value.strip()))]


@dataclass(frozen=True)
class _Effect:
    affects: str


# Settings that predictions do not depend on, and those of them that a resumed run may also change.
TrainingOnly = Annotated[T, _Effect("training")]
NoEffect = Annotated[T, _Effect("nothing")]
