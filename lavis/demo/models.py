"""The models that the page offers: the first is always there, and of the others only the one that was used last.

So at most two are in memory. Another one is loaded when somebody asks it; that is part of the job that asks.
"""

import gc
import logging
from collections.abc import Callable, Mapping
from typing import Any

from lavis.common.errors import UserError, did_you_mean
from lavis.demo.settings import FieldError, JobError

_log = logging.getLogger(__name__)

Loader = Callable[[], Any]


class Models:
    """Models by name; only the thread of the jobs may ask for one.

    Args:
        others: what loads each of the further models.
        dropped: called with the name of a model before it goes, to let go of all that holds on to it.
    """

    def __init__(self, name: str, model: Any, others: Mapping[str, Loader], *, dropped: Callable[[str], None]) -> None:
        self.names = (name, *others)
        self.first = model
        self._others = others
        self._dropped = dropped
        self._loaded: tuple[str, Any] | None = None

    def name_of(self, wanted: str) -> str:
        """Return a model's name; the empty one is that of the first.

        Raises:
            FieldError: there is no such model.
        """
        if wanted and wanted not in self.names:
            raise FieldError("model", f"There is no model {wanted!r:.80}; {did_you_mean(wanted[:80], self.names)}")
        return wanted or self.names[0]

    def get(self, name: str, *, report: Callable[[str], None]) -> Any:
        """Return a model, which is loaded where it has to be.

        Raises:
            JobError: it cannot be loaded; the log says why.
        """
        if name == self.names[0]:
            return self.first
        if self._loaded is None or self._loaded[0] != name:
            self._drop()
            report(f"loading {name}")
            try:
                self._loaded = (name, self._others[name]())
            except UserError as error:  # it may name what lies on this machine
                _log.error("%s cannot be loaded: %s", name, error)
                raise JobError(f"{name} cannot be loaded at the moment; the server's log says why.") from error
        return self._loaded[1]

    def _drop(self) -> None:
        if self._loaded is None:
            return
        self._dropped(self._loaded[0])
        self._loaded = None
        gc.collect()
        import torch  # takes seconds, and a model that was loaded has imported it

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
