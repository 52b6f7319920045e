"""The checkout as the architecture tests see it: its Python files and what they import."""

import ast
import re
from collections.abc import Container, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("lavis", "parity", "tests", "benchmarks", "sevila_data", "sevila_checkpoints")
MODULE_NAME = re.compile(r"lavis(\.[A-Za-z_]\w*)+(:\w+)?")


def python_files(*folders: str) -> list[Path]:
    """All Python files of the folders, relative to the checkout."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def all_python_files() -> list[Path]:
    """All Python files of the project, relative to the checkout."""
    return sorted([*python_files(*CODE_FOLDERS), *(path.relative_to(ROOT) for path in ROOT.glob("*.py"))])


def imported_modules(source: str, package: str) -> set[str]:
    """Every module that the source names, wherever the import stands.

    Modules named in a string count too: that is how the registry and `importlib` import them.

    Args:
        package: dotted name of the package that relative imports start from.
    """
    return set(_imports(ast.parse(source), package.split(".")))


def _imports(tree: ast.AST, package: list[str], *, deep: bool = True) -> Iterator[str]:
    for node in ast.walk(tree) if deep else [tree]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif (
            deep
            and isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and MODULE_NAME.fullmatch(node.value)
        ):
            yield node.value.partition(":")[0]


def package_of(path: Path) -> str:
    """Dotted name of the package that a file lies in."""
    return ".".join(path.parent.parts)


def run_time_imports(source: str, package: str) -> set[str]:
    """Every module that running the source imports, now or later, also inside functions.

    What stands under `if TYPE_CHECKING` is never imported, and a name in a string is looked up by a registry, which is
    how a part is found by those who do not know it: neither counts.
    """
    return {module for tree in _running(ast.parse(source)) for module in _imports(tree, package.split("."), deep=False)}


def _running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    yield node
    checked = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in node.orelse if isinstance(node, ast.If) and checked else ast.iter_child_nodes(node):
        yield from _running(child)


def import_graph(sources: Mapping[Path, str]) -> dict[Path, set[Path]]:
    """File -> the files that it imports, by `run_time_imports`."""
    return {
        path: {file for module in run_time_imports(source, package_of(path)) if (file := file_of(module, sources))}
        - {path}
        for path, source in sources.items()
    }


def file_of(module: str, files: Container[Path]) -> Path | None:
    """The file that a dotted name lies in; the name may go on to something inside it."""
    path = Path(*module.split("."))
    for place in (path, *path.parents[:-1]):
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file in files:
                return file
    return None


def circle(graph: Mapping[Path, set[Path]]) -> list[Path]:
    """Files of which each imports the next and the last is the first; empty where there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[Path] = error.args[1]
        return found[::-1]
    return []
