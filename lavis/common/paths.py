"""Where the package's own files lie: in the wheel beside the code, in a checkout at its top."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def _bundled(name: str) -> Path:
    inside_wheel = _PACKAGE / name
    return inside_wheel if inside_wheel.is_dir() else _PACKAGE.parent / name


def configs_dir() -> Path:
    """Return the folder of YAML configurations."""
    return _bundled("configs")


def checkpoints_dir() -> Path:
    """Return the folder of the embedded model and tokenizer."""
    return _bundled("sevila_checkpoints")


def paper_tables_path() -> Path:
    """Return the file of published figures."""
    return _bundled("benchmarks") / "paper_tables.yaml"
