"""Guards processes that tests start (see `tests/torchvision_guard.py`), each when it first looks for torchvision."""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

GUARD = "tests.torchvision_guard"


class _Guard(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision" and GUARD not in sys.modules:
            file = Path(__file__).parents[1] / "torchvision_guard.py"
            spec = importlib.util.spec_from_file_location(GUARD, file)
            sys.modules[GUARD] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[GUARD])


sys.meta_path.insert(0, _Guard())
