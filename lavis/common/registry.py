"""Names for the parts that configurations and command lines choose between.

A part is registered under a name with its import path, and is imported only when it is asked
for: listing the names costs nothing, and an optional dependency is needed only by who uses it.
"""

import importlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from lavis.common.errors import ConfigError
from lavis.common.naming import did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """One kind of part, by name.

    Example:
        >>> readers: Registry[type] = Registry("video reader")
        >>> readers.declare("pyav", "lavis.video.pyav:PyAVReader")
        >>> readers.names()
        ['pyav']
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, T | str] = {}

    def declare(self, name: str, import_path: str) -> None:
        """Register `"module:attribute"`, imported at first use."""
        self._add(name, import_path)

    def register(self, name: str) -> Callable[[T], T]:
        """Class or function decorator that registers what it decorates."""

        def decorate(part: T) -> T:
            self._add(name, part)
            return part

        return decorate

    def get(self, name: str) -> T:
        """Return the part, importing it if needed.

        Raises:
            ConfigError: no part has this name; the message lists those that exist.
        """
        if name not in self._parts:
            raise ConfigError(f"unknown {self.kind} {name!r}; {did_you_mean(name, self._parts)}")
        part = self._parts[name]
        if isinstance(part, str):
            module, _, attribute = part.partition(":")
            part = self._parts[name] = getattr(importlib.import_module(module), attribute)
        return part

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        return sorted(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def _add(self, name: str, part: T | str) -> None:
        if name in self._parts:
            raise RuntimeError(f"{self.kind} {name!r} is registered twice")
        self._parts[name] = part


class LavisRegistry:
    """All registries of the package in one place, as LAVIS users expect them.

    New kinds of parts are a new attribute here; new parts are one `declare` or one decorator.
    """

    def __init__(self) -> None:
        self.models: Registry[Any] = Registry("model")
        self.vision_towers: Registry[Any] = Registry("vision tower")
        self.selectors: Registry[Any] = Registry("frame selector")
        self.scorers: Registry[Any] = Registry("frame scorer")
        self.policies: Registry[Any] = Registry("frame policy")
        self.frame_readers: Registry[Any] = Registry("frame reader")
        self.video_readers: Registry[Any] = Registry("video reader")
        self.prompts: Registry[Any] = Registry("prompt")
        self.builders: Registry[Any] = Registry("dataset builder")
        self.processors: Registry[Any] = Registry("processor")
        self.objectives: Registry[Any] = Registry("objective")
        self.metrics: Registry[Any] = Registry("metric")
        self.tasks: Registry[Any] = Registry("task")
        self.runners: Registry[Any] = Registry("runner")

    def get_model_class(self, name: str) -> Any:
        """Return a model class by name (LAVIS' spelling)."""
        return self.models.get(name)

    def get_builder_class(self, name: str) -> Any:
        """Return a dataset builder by name (LAVIS' spelling)."""
        return self.builders.get(name)

    def get_processor_class(self, name: str) -> Any:
        """Return a processor class by name (LAVIS' spelling)."""
        return self.processors.get(name)

    def get_task_class(self, name: str) -> Any:
        """Return a task class by name (LAVIS' spelling)."""
        return self.tasks.get(name)

    def get_runner_class(self, name: str) -> Any:
        """Return a runner class by name (LAVIS' spelling)."""
        return self.runners.get(name)

    def list_models(self) -> list[str]:
        """Return the names of all models."""
        return self.models.names()


registry = LavisRegistry()
