"""Ending with torchrun; quick to import."""

import os
import signal
import socket
import threading
import time

from lavis.common.errors import FaultError

_SECONDS_BETWEEN_LOOKS, _PATIENCE_S = 1.0, 60.0
# Noted at once: that process may end while libraries are imported, and then another one takes its place.
_PARENT = os.getppid()


def end_with_torchrun() -> None:
    """Send this process SIGTERM when the torchrun that started it has ended, also where that was killed.

    Raises:
        FaultError: it has ended already.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    threading.Thread(target=_wait_and_end, daemon=True).start()
    # It may have ended before this process could note it.
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        try:
            socket.create_connection((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])), _PATIENCE_S).close()
        except ConnectionRefusedError as error:
            raise FaultError("torchrun, which started this process, has ended") from error


def _wait_and_end() -> None:
    while os.getppid() == _PARENT:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
