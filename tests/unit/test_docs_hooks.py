"""Links as they are written for the repository lead to the pages that the files have become on the site."""

from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    return load_script("docs_hooks")


@pytest.mark.parametrize(
    ("page", "link", "leads_to"),
    [
        ("index.md", "docs/selection.md", "selection.md"),
        ("index.md", "sevila_data/README.md", "annotations.md"),
        ("selection.md", "../benchmarks/SELECTORS.md", "benchmarks/SELECTORS.md"),
        ("guides/speed.md", "../../benchmarks/RESULTS.md", "../benchmarks/RESULTS.md"),
        ("guides/speed.md", "training.md", "training.md"),
        ("benchmarks/RESULTS.md", "../docs/scale.md", "../scale.md"),
        ("limits.md", "nowhere.md", "nowhere.md"),  # which mkdocs refuses
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(
    hooks: ModuleType, page: str, link: str, leads_to: str
) -> None:
    assert hooks._on_site(link, page) == leads_to


def test_every_page_from_outside_of_docs_is_there(hooks: ModuleType) -> None:
    assert [name for name in hooks.PAGES if not (ROOT / name).is_file()] == []


def test_every_module_of_the_api_pages_can_be_found() -> None:
    named = [
        line.removeprefix("::: ")
        for page in (ROOT / "docs" / "api").glob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("::: ")
    ]
    assert len(named) > 50
    places = [ROOT.joinpath(*name.split(".")) for name in named]
    # A class or function is in the module before its name.
    assert [
        str(one)
        for one in places
        if not one.with_suffix(".py").is_file() and not one.parent.with_suffix(".py").is_file()
    ] == []


def test_the_navigation_names_files_that_are_there() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]

    def leaves(part: object) -> list[str]:
        if isinstance(part, str):
            return [part]
        return [leaf for one in (part.values() if isinstance(part, dict) else part) for leaf in leaves(one)]  # type: ignore[attr-defined]

    outside = {"index.md", "annotations.md", "weights.md", "security.md", "contributing.md", "changelog.md"}
    found = leaves(yaml.safe_load(f"nav:{text}")["nav"])
    assert len(found) == len(set(found))
    here = [name for name in found if name not in outside and not name.startswith("benchmarks/")]
    assert sorted(here) == sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))
