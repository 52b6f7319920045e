"""Bundle the configurations and the embedded model, and give README whole links; the rest stands in pyproject.toml."""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent

# Folders at the top of a checkout that a wheel holds inside the package (lavis/common/files.py looks in both places).
# Downloaded checkpoints of many gigabytes lie beside the embedded model, so what is bundled is named, not excluded.
BUNDLED = {
    "configs": ("**/*.yaml",),
    "sevila_checkpoints": ("README.md", "*tiny*/**/*", "*tokenizer*/**/*", "clips/*"),
}


def read_readme() -> str:
    """Return README as PyPI shows it: what links to a file of the repository names the repository's address."""

    def value(file: str, key: str) -> str:
        (found,) = re.findall(rf'^{key} = "(.+)"$', (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        return found

    tree = f"v{value('lavis/common/defaults.py', 'VERSION')}"
    address = value("pyproject.toml", "Repository")

    def whole(link: re.Match[str]) -> str:
        kind = "raw" if link["text"].startswith("!") else "blob"
        return f"{link['text']}({address}/{kind}/{tree}/{link['path']})"

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(?P<text>!?\[[^\]]*\])\((?!\w+:|#)(?P<path>[^)]+)\)", whole, text)


def bundled_files() -> list[Path]:
    """Return the files to bundle, relative to the checkout."""
    found = {
        path
        for folder, patterns in BUNDLED.items()
        for pattern in patterns
        for path in (ROOT / folder).glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(path.relative_to(ROOT) for path in found)


class BuildWithData(build_py):
    """Copy the bundled folders into the built package; an editable install reads them where they are."""

    def run(self) -> None:
        """Build as usual, then add the bundled files."""
        if self.editable_mode:
            super().run()
            return
        # pip builds inside the checkout, and an earlier build there still holds modules that are gone by now.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for source, target in self._bundled().items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:  # noqa: FBT001, FBT002 (setuptools' signature)
        """List the bundled files among what was built."""
        return [*super().get_outputs(include_bytecode), *self._bundled().values()]

    def _bundled(self) -> dict[str, str]:
        return {str(ROOT / path): str(Path(self.build_lib, "lavis", path)) for path in bundled_files()}


setup(
    cmdclass={"build_py": BuildWithData},
    long_description=read_readme(),
    long_description_content_type="text/markdown",
)
