"""The checkout as the architecture tests see it: its Python files and what they import."""

import ast
import re
from collections.abc import Iterator
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


def _imports(tree: ast.AST, package: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
            yield node.value.partition(":")[0]


def package_of(path: Path) -> str:
    """Dotted name of the package that a file lies in."""
    return ".".join(path.parent.parts)
