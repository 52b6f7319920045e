"""Imports run one way: common, video, processors, then datasets and models side by side, tasks, runners, entry points.

The converters in `sevila_data` stand beside the package, above `datasets`; only entry points use them. The miniature in
there is an experiment: it makes its data and runs the stages through the runner, as an entry point does. `parity`
and `benchmarks` are tools of a checkout too; of the package only `sevila verify` imports one.

No two files import each other in a circle, however long. Only `lavis/models` knows which models there are: everyone
else goes through `lavis.models.loading`.
"""

from pathlib import Path

import pytest

from tests.architecture.source import ROOT, circle, import_graph, imported_modules, package_of, python_files

BELOW_TASKS = {"common", "export", "video", "processors", "datasets", "models", "selection"}
BELOW_ENTRY = BELOW_TASKS | {"tasks", "runners"}
# What each part of lavis may import, itself aside.
ALLOWED = {
    "common": set(),
    "export": {"common", "video"},
    "video": {"common"},
    "processors": {"common", "video"},
    "datasets": {"common", "video", "processors"},
    "models": {"common", "video", "processors", "export"},
    "selection": {"common", "video", "processors", "models"},
    "tasks": BELOW_TASKS,
    "runners": BELOW_TASKS | {"tasks"},
    "sevila_data": {"common", "video", "processors", "datasets"},
    "miniature": BELOW_ENTRY | {"sevila_data"},
    "demo": BELOW_ENTRY | {"sevila_data"},
    "cli": BELOW_ENTRY | {"sevila_data", "demo"},
}
# The part of common whose very subject is torch; the rest stays quick to import.
TORCH_IN_COMMON = "lavis/common/distributed.py"
# Folders of `lavis/models` that hold one kind of model each.
MODELS = ("sevila", "hf", "api")
FILES = python_files("lavis", "sevila_data")


def part_of(path: Path) -> str:
    """The part of the project that a file belongs to; its own name where it lies at the top of lavis."""
    if path.match("sevila_data/miniature/*"):
        return "miniature"
    return path.parts[1] if path.parts[0] == "lavis" else path.parts[0]


def forbidden_imports(path: Path, source: str) -> list[str]:
    """Modules that the file may not import."""
    found = imported_modules(source, package_of(path))
    return sorted(module for module in found if not is_allowed(path, module))


def test_only_verify_imports_a_tool_of_the_checkout() -> None:
    found = {
        (path.as_posix(), module.partition(".")[0])
        for path in python_files("lavis", "sevila_data")
        if part_of(path) != "miniature"
        for module in imported_modules((ROOT / path).read_text(encoding="utf-8"), package_of(path))
        if module.split(".")[0] in ("parity", "benchmarks", "tests") or module.startswith("sevila_data.miniature")
    }
    assert found == {("lavis/cli/verify.py", "parity")}


def is_allowed(path: Path, module: str) -> bool:
    top, *rest = module.split(".")
    part = part_of(path)
    if top in ("timm", "torchvision"):
        return path.match("lavis/models/vision/timm*.py")
    if top == "torch":
        return part != "common" or path.as_posix() == TORCH_IN_COMMON
    if top not in ("lavis", "sevila_data") or part.endswith(".py") or rest == ["__version__"]:
        return True
    wanted = part_of(Path(*module.split("."), "_")) if top == "sevila_data" else next(iter(rest), "")
    return wanted == part or wanted in ALLOWED[part]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_file_imports_only_what_lies_below_it(path: Path) -> None:
    assert forbidden_imports(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_every_part_of_the_package_has_its_place() -> None:
    parts = {part_of(path) for path in FILES}
    assert {part for part in parts if not part.endswith(".py")} <= ALLOWED.keys()


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("lavis/models/a.py", "from lavis.datasets.b import c", ["lavis.datasets.b.c"]),
        ("lavis/datasets/a.py", "import lavis.models", ["lavis.models"]),
        ("lavis/processors/a.py", "def f():\n    from lavis.tasks import g", ["lavis.tasks.g"]),
        (
            "lavis/common/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lavis.models.b",
            ["lavis.models.b"],
        ),
        ("lavis/common/a.py", "registry.declare('x', 'lavis.models.b:B')", ["lavis.models.b"]),
        ("lavis/tasks/a.py", "from ..runners import b", ["lavis.runners.b"]),
        ("lavis/tasks/deep/a.py", "from ...cli.main import main", ["lavis.cli.main.main"]),
        ("lavis/models/a.py", "from lavis import registry", ["lavis.registry"]),
        ("lavis/datasets/a.py", "from sevila_data.b import c", ["sevila_data.b.c"]),
        ("sevila_data/a.py", "import lavis.models.b", ["lavis.models.b"]),
        ("lavis/common/a.py", "import torch.nn", ["torch.nn"]),
        ("lavis/models/vision/blip2.py", "def f():\n    import torchvision", ["torchvision"]),
        ("lavis/models/a.py", "from lavis.processors import b; from .c import d; import torch", []),
        ("lavis/models/vision/timm.py", "import timm", []),
        ("lavis/common/distributed.py", "import torch", []),
        ("lavis/models/a.py", "from lavis.common.defaults import VERSION", []),
        ("lavis/cli/a.py", "from lavis.runners.b import c", []),
        ("lavis/cli/a.py", "from sevila_data.b import c", []),
    ],
)
def test_forbidden_imports_are_found_wherever_they_stand(path: str, source: str, found: list[str]) -> None:
    assert forbidden_imports(Path(path), source) == found


def known_models(path: Path, source: str) -> list[str]:
    """Models of one kind that a file outside `lavis/models` imports."""
    if path.parts[:2] == ("lavis", "models"):
        return []
    packages = tuple(f"lavis.models.{name}." for name in MODELS)
    return sorted(name for name in imported_modules(source, package_of(path)) if f"{name}.".startswith(packages))


def test_only_models_know_which_models_there_are() -> None:
    files = python_files("lavis")
    knowing = {str(path) for path in files if known_models(path, (ROOT / path).read_text(encoding="utf-8"))}
    assert knowing == set()


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        (
            "lavis/cli/a.py",
            "def f():\n    from lavis.models.sevila.model import SeViLA",
            ["lavis.models.sevila.model.SeViLA"],
        ),
        ("lavis/tasks/a.py", "from lavis.models import hf", ["lavis.models.hf"]),
        ("lavis/runners/deep/a.py", "from lavis.models.loading import load_model", []),
        ("lavis/models/__init__.py", "declare('sevila', 'lavis.models.sevila.model:SeViLA')", []),
        ("lavis/models/sevila/a.py", "from lavis.models.sevila.model import SeViLA", []),
    ],
)
def test_a_known_model_is_found_wherever_its_import_stands(path: str, source: str, found: list[str]) -> None:
    assert known_models(Path(path), source) == found


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = import_graph({path: (ROOT / path).read_text(encoding="utf-8") for path in FILES})
    assert circle(graph) == []


def test_a_circle_is_found_at_any_depth_and_also_inside_functions() -> None:
    sources = {
        Path("lavis/a.py"): "from lavis.b import B",
        Path("lavis/b.py"): "from .deep import c",
        Path("lavis/deep/__init__.py"): "",
        Path("lavis/deep/c.py"): "def f():\n    import lavis.a",
    }
    assert {*circle(import_graph(sources))} == sources.keys() - {Path("lavis/deep/__init__.py")}
    # What only annotations name is never imported, and a name in a string is looked up when a part is asked for.
    for harmless in ("if TYPE_CHECKING:\n    from lavis import a", "declare('a', 'lavis.a:A')", "import lavis.other"):
        assert circle(import_graph({**sources, Path("lavis/deep/c.py"): harmless})) == []
