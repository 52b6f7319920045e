"""Scripts of `run_scripts` that are no part of a package, as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).resolve().parents[1] / "run_scripts"


def load_script(name: str) -> ModuleType:
    """Run `run_scripts/NAME.py` as a module, and return it."""
    spec = importlib.util.spec_from_file_location(name, _FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
