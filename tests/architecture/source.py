"""The checkout as the architecture tests see it: its Python files, what they import, how long their functions are."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("lavis", "tests", "benchmarks", "sevila_data", "sevila_checkpoints")
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


@dataclass(frozen=True)
class Function:
    """A function and the lines it takes, from its first decorator to its end without its docstring."""

    name: str
    num_lines: int


def functions(source: str) -> list[Function]:
    """Every function of the source, also the nested ones."""
    tree = ast.parse(source)
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [Function(node.name, _num_lines(node)) for node in nodes]


def _num_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    total = (node.end_lineno or node.lineno) - first + 1
    if ast.get_docstring(node) is None:
        return total
    docstring = node.body[0]
    return total - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)
