"""What a part of a pipeline is, so far as it can be told from outside: its kind, its settings and its code."""

import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

_PLAIN = (type(None), bool, int, float, str)
_OWN = __name__.partition(".")[0]


def described(part: Any) -> Any:
    """Return a part as JSON values: its kind, every setting that it holds, and the parts that it is made of.

    Modules of torch are left out: weights are told apart by other means. Code that does not belong to this package is
    part of the description.
    """
    return _described(part, ())


def flattened(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    result: dict[str, Any] = {}
    for name, value in mapping.items():
        key = f"{prefix}{name}"
        result.update(flattened(value, f"{key}.") if isinstance(value, Mapping) and value else {key: value})
    return result


@functools.cache
def source_digest(*modules: str) -> str:
    """Return a digest of the source of modules, and of everything below those that are packages."""
    digest = hashlib.sha256()
    for module in modules:
        found = importlib.util.find_spec(module)
        for place in _places(found.submodule_search_locations or [found.origin] if found else []):
            digest.update(f"{module} {place.name}\n".encode() + place.read_bytes())
    return digest.hexdigest()


def _places(roots: Iterable[str | None]) -> Iterable[Path]:
    for root in map(Path, filter(None, roots)):
        yield from sorted(root.rglob("*.py")) if root.is_dir() else [root]


def _described(part: Any, outer: tuple[int, ...]) -> Any:
    if isinstance(part, _PLAIN):
        return part
    if id(part) in outer:
        return None
    outer = (*outer, id(part))
    if isinstance(part, (list, tuple)):
        return [_described(one, outer) for one in part]
    if isinstance(part, (set, frozenset)):
        return sorted(str(_described(one, outer)) for one in part)
    if isinstance(part, Mapping):
        return {str(name): _described(value, outer) for name, value in part.items()}
    if isinstance(part, functools.partial):
        return {"of": _described(part.func, outer), "arguments": _described([part.args, part.keywords], outer)}
    if isinstance(part, type):
        return {"kind": _kind(part)}
    if callable(part) and hasattr(part, "__code__"):
        return {"kind": _kind(part), "settings": _described(_bound(part), outer)}
    if isinstance(part, torch.Tensor):
        part = part.detach().cpu().contiguous().view(torch.uint8).numpy()
    if isinstance(part, np.ndarray):
        return hashlib.sha256(part.tobytes()).hexdigest()
    settings = {} if isinstance(part, nn.Module) else _settings(part)
    if not settings and type(part).__repr__ is not object.__repr__ and not isinstance(part, nn.Module):
        return repr(part)
    return {"kind": _kind(type(part)), **_described(settings, outer)}


def _bound(function: Callable[..., Any]) -> list[Any]:
    """Return what a function was given when it was made."""
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return [getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None), cells]


def _settings(part: Any) -> dict[str, Any]:
    slots = (name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ()))
    names = [field.name for field in dataclasses.fields(part)] if dataclasses.is_dataclass(part) else slots
    return {**getattr(part, "__dict__", {}), **{name: getattr(part, name) for name in names if hasattr(part, name)}}


def _kind(part: Any) -> str:
    name = f"{part.__module__}:{part.__qualname__}"
    if part.__module__.partition(".")[0] in (_OWN, "builtins"):
        return name
    file = getattr(sys.modules.get(part.__module__), "__file__", None)
    code = Path(file).read_bytes() if file and Path(file).suffix == ".py" else b""
    return f"{name} {hashlib.sha256(code).hexdigest()[:16]}"
