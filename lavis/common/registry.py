"""Names for the parts that configurations and command lines choose between, and how plugins add more.

A part is registered under a name with its import path, and is imported only when it is asked
for: listing the names costs nothing, and an optional dependency is needed only by who uses it.
"""

import hashlib
import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lavis.common.errors import ConfigError, UserError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
logger = logging.getLogger(__name__)

_MAIN = ("__main__", "__mp_main__")
ENTRY_POINTS = "sevila.plugins"
"""A package that declares an entry point of this group is imported when a part is first asked for by name."""


class Registry(Generic[T]):
    """One kind of part, by name; `fill` is called before names are looked at, and declares those that are not yet.

    Example:
        >>> readers: Registry[type] = Registry("video reader")
        >>> readers.declare("pyav", "lavis.video.pyav:PyAVReader")
        >>> readers.names()
        ['pyav']
    """

    def __init__(self, kind: str, *, fill: Callable[[], None] = lambda: None) -> None:
        self.kind = kind
        self.modules: dict[str, str] = {}
        """The module that registered each name."""
        self._fill = fill
        self._parts: dict[str, T | str] = {}

    def declare(self, name: str, import_path: str) -> None:
        """Register `"module:attribute"`, imported at first use; a ConfigError refuses a name that another part has."""
        self._add(name, import_path, _calling_module())

    def register(self, name: str) -> Callable[[T], T]:
        """Class or function decorator that registers what it decorates; errors as for `declare`."""
        module = _calling_module()

        def decorate(part: T) -> T:
            self._add(name, part, module)
            return part

        return decorate

    def get(self, name: str) -> T:
        """Return the part, importing it if needed; where there is none, a ConfigError lists those that exist."""
        self._fill()
        if name not in self._parts:
            raise ConfigError(f"unknown {self.kind} {name!r}; {did_you_mean(name, self._parts)}")
        part = self._parts[name]
        if isinstance(part, str):
            module, _, attribute = part.partition(":")
            part = self._parts[name] = getattr(importlib.import_module(module), attribute)
        return part

    def build(self, spec: str | Mapping[str, Any]) -> Any:
        """Build a part: by its name, or from `{"name": ..., ...}` with its keyword arguments.

        Raises:
            ConfigError: an unknown name or argument, or an argument that cannot be.
        """
        settings = {"name": spec} if isinstance(spec, str) else spec
        if not isinstance(settings, Mapping) or not isinstance(settings.get("name"), str):
            raise ConfigError(f"{self.kind} is {spec!r}; give a name, or a mapping of a name and arguments")
        name = settings["name"]
        arguments = {str(key): value for key, value in settings.items() if key != "name"}
        part: Any = self.get(name)
        known = inspect.signature(part).parameters
        takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
        for key in arguments if not takes_any else ():
            if key not in known:
                raise ConfigError(f"{self.kind} {name}: unknown argument {key!r}; {did_you_mean(key, known)}")
        try:
            return part(**arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.kind} {name} with {arguments}: {error}") from error

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        self._fill()
        return sorted(self._parts)

    def __contains__(self, name: object) -> bool:
        self._fill()
        return name in self._parts

    def _add(self, name: str, part: T | str, module: str) -> None:
        if not _is_own(module):
            self._fill()  # so that it meets all others of its name
        # A module may run again, as the cell of a notebook does; then it replaces its own.
        if name in self._parts and (old := _described(self._parts[name])) != (new := _described(part)):
            raise ConfigError(f"{self.kind} {name!r} is there twice, as {old} and {new}; give one of them another name")
        self._parts[name], self.modules[name] = part, module


class LavisRegistry:
    """All registries of the package in one place; importing the packages in `declared_in` declares its own parts.

    New kinds of parts are a new attribute here; new parts are one `declare` or one decorator.
    """

    def __init__(self) -> None:
        self.declared_in: Sequence[str] = ()
        self._imported: dict[str, None] = {}
        self._is_filled, self._lock = False, threading.RLock()
        self.models = self._kind("model")
        self.vision_towers = self._kind("vision tower")
        self.scorers = self._kind("frame scorer")
        self.policies = self._kind("frame policy")
        self.frame_packings = self._kind("frame reader")
        self.video_readers = self._kind("video reader")
        self.prompts = self._kind("prompt")
        self.chat_prompts = self._kind("chat prompt")
        self.builders = self._kind("dataset builder")
        self.processors = self._kind("processor")
        self.objectives = self._kind("objective")
        self.metrics = self._kind("metric")
        self.tasks = self._kind("task")
        self.runners = self._kind("runner")

    def _kind(self, name: str) -> Registry[Any]:
        return Registry(name, fill=self._fill)

    def _fill(self) -> None:
        """Declare the parts of this package, and then those of installed plugins."""
        from importlib.metadata import entry_points  # takes a while, and most who import the package need no part

        with self._lock:
            if self._is_filled:
                return
            self._is_filled = True  # from here on: what is imported now may ask for parts itself
            for package in self.declared_in:
                importlib.import_module(package)
            for plugin in entry_points(group=ENTRY_POINTS):
                self._load(plugin)

    def _load(self, plugin: "EntryPoint") -> None:
        """Import an installed plugin; a warning names one that is broken."""
        try:
            part = plugin.load()
            if plugin.attr:
                part()
            self._imported[plugin.module] = None
        except (Exception, SystemExit) as error:  # noqa: BLE001  # it is somebody else's, and may raise anything
            import multiprocessing

            if os.environ.get("RANK", "0") == "0" and multiprocessing.parent_process() is None:  # once is enough
                package = plugin.dist.name if plugin.dist else plugin.name
                logger.warning(
                    "the plugin %s = %s of the package %s is left out: %s; mend or uninstall it",
                    *(plugin.name, plugin.value, package, _in_words(error)),
                )

    def import_modules(self, names: Iterable[str], *, place: str) -> None:
        """Import modules that register parts, as `python -m` finds them; `place` names them in messages.

        Raises:
            ConfigError: there is no such module, or it cannot be imported.
        """
        for name in names:
            self._fill()
            folder = str(Path.cwd())
            if folder not in sys.path:
                sys.path.insert(0, folder)
            try:
                importlib.import_module(name)
            except UserError as error:
                raise ConfigError(f"{place} {name}: {error}") from error
            except (Exception, SystemExit) as error:
                if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                    raise ConfigError(
                        f"{place} {name}: there is no module {name!r} in {folder} or among the installed packages; "
                        "name it as `import` does, and start where it lies or install it"
                    ) from error
                raise ConfigError(f"{place} {name}: it cannot be imported ({_in_words(error)}); mend it") from error
            self._imported[name] = None

    def plugins(self) -> list[str]:
        """Return the modules of others that were imported for their parts, or have registered some.

        Processes that start anew import them too, apart from the main script, which runs again there by itself.
        """
        registries = [one for one in vars(self).values() if isinstance(one, Registry)]
        registering = {module: None for one in registries for module in one.modules.values()}
        return [name for name in {**self._imported, **registering} if not _is_own(name) and name not in _MAIN]

    def plugin_versions(self) -> dict[str, str]:
        """Return each of `plugins` with the package and version it is of, or the SHA-256 of its file."""
        from importlib.metadata import packages_distributions, version

        names = self.plugins()
        packages = packages_distributions() if names else {}
        versions = {}
        for name in names:
            package = packages.get(name.partition(".")[0], [""])[0]
            file = getattr(sys.modules.get(name), "__file__", None)
            digest = f"sha256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()}" if file else "built in"
            versions[name] = f"{package} {version(package)}" if package else digest
        return versions

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


def import_in_worker(plugins: Sequence[str]) -> None:
    """Import another process's `registry.plugins()`; a warning names each that cannot be imported."""
    for name in plugins:
        try:
            registry.import_modules([name], place="in a worker process,")
        except ConfigError as error:
            logger.warning("%s", error)


def _calling_module() -> str:
    """Return the module that called a method here."""
    return str(sys._getframe(2).f_globals.get("__name__", "__main__"))  # noqa: SLF001


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == __name__.partition(".")[0]


def _described(part: object) -> str:
    """Return the import path of a part."""
    if isinstance(part, str):
        return part
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}:{named.__qualname__}"


def _in_words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
