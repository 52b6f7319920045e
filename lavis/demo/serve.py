"""Building the page and serving it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from lavis.common.errors import ConfigError, MissingExtraError, TerminatedError
from lavis.demo.files import VisitorFiles, visitors_folder
from lavis.demo.jobs import Jobs
from lavis.demo.settings import Settings

AUTH_VARIABLE = "SEVILA_DEMO_AUTH"
_SWEEP_EVERY_S = 300
_MAX_PORT = 65535
# Ctrl+C, what schedulers and `docker stop` send, and what a terminal that is closed sends; Windows has no SIGHUP.
_ENDINGS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Served:
    """A running page."""

    url: str
    block: Any


@contextmanager
def serving(
    model: Any,
    *,
    model_name: str,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    auth: tuple[str, str] | None = None,
    settings: Settings | None = None,
    other_models: Mapping[str, Callable[[], Any]] | None = None,
) -> Iterator[Served]:
    """Serve the page as long as the block runs; afterwards nothing of the visitors' files is left.

    In the main thread that holds for SIGINT, SIGTERM and SIGHUP too, which end the block by an exception. What a killed
    process left is removed when the next page is served. The port None takes any free one. What loads `other_models`,
    by their names, is called when one is asked; of these only the one that was asked last stays in memory.

    Raises:
        MissingExtraError: Gradio is not installed.
        ConfigError: the port is taken, or there is no such port.
        TerminatedError: SIGTERM or SIGHUP came; the visitors' files are gone.
    """
    settings = settings or Settings()
    if port is not None and not 0 < port <= _MAX_PORT:
        raise ConfigError(f"there is no port {port}; choose a --port from 1 to {_MAX_PORT}")
    with _ended_by_signals(), visitors_folder() as folder, _environment(str(folder)):
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("gradio", "demo") from error
        # Imported late: Gradio takes seconds, and reads its environment when it is imported.
        from lavis.demo.app import launch
        from lavis.demo.service import Service
        from lavis.demo.videos import Sources, read_examples

        files = VisitorFiles(folder, keep_s=settings.keep_s)
        sources = Sources(files, read_examples(), settings=settings)
        service = Service(model, model_name=model_name, sources=sources, settings=settings, other_models=other_models)
        jobs = Jobs(settings)
        try:
            block, url = launch(service, jobs, files, host=host, port=port, auth=auth)
        except OSError as error:
            raise ConfigError(f"cannot serve on {host}:{port} ({error}); choose another --port") from error
        try:
            with files.swept(every_s=_SWEEP_EVERY_S):
                yield Served(url, block)
        finally:
            jobs.close()
            block.close(verbose=False)


def auth_from_environment() -> tuple[str, str] | None:
    """Return user name and password of the variable SEVILA_DEMO_AUTH, or None where it is not set.

    Raises:
        ConfigError: it is not "user:password".
    """
    value = os.environ.get(AUTH_VARIABLE)
    if not value:
        return None
    user, colon, password = value.partition(":")
    if not (user and colon and password):
        raise ConfigError(f"{AUTH_VARIABLE} must be user:password")
    return user, password


def is_public(host: str, auth: tuple[str, str] | None) -> bool:
    """Whether anybody in the network can use a page that is served like this."""
    return host not in _LOOPBACK and auth is None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals end the block by an exception, so that it can clean up."""
    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield
        return

    def end(number: int, _frame: FrameType | None) -> None:
        for ending in earlier:  # cleaning up is not interrupted
            signal.signal(ending, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise TerminatedError(f"asked to end ({signal.Signals(number).name}); visitors' files are removed")

    # What is ignored, as under nohup, or handled by the caller stays so.
    usual = (signal.SIG_DFL, signal.default_int_handler)
    earlier = {number: handler for number in _ENDINGS if (handler := signal.getsignal(number)) in usual}
    try:
        for number in earlier:
            signal.signal(number, end)
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Tell Gradio the folder of visitors' files, which it looks up for each file, and to report nothing to anybody."""
    wanted = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    earlier = {name: os.environ[name] for name in wanted if name in os.environ}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            del os.environ[name]
        os.environ.update(earlier)
