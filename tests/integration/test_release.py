"""What a release is made of says the same everywhere, and the tools that judge such files find nothing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lavis import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = sorted(path.stem.removeprefix("python-") for path in (ROOT / "constraints").glob("python-*.txt"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def checked(*command: str) -> None:
    """Run a tool of the environment that these tests run in."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def read_yaml(name: str) -> Any:
    # A loader that keeps words: YAML 1.1 takes the key `on` for true.
    return yaml.load((ROOT / name).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def recipe() -> dict:
    """The conda recipe, rendered as rattler-build does."""
    from rattler_build import Stage0Recipe

    (variant,) = Stage0Recipe.from_file(str(ROOT / "conda" / "recipe.yaml")).render()
    return variant.recipe.to_dict()


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.citation-file-format", "CITATION.cff"),
        ("vendor.github-workflows", ".github/workflows/ci.yml"),
        ("vendor.github-workflows", ".github/workflows/release.yml"),
    ],
)
def test_a_file_fits_its_published_schema(schema: str, file: str) -> None:
    checked(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file)


def test_the_workflows_give_away_no_more_than_they_must() -> None:
    checked(tool("zizmor"), "--offline", "--quiet", ".github/workflows")


def test_the_dockerfile_follows_hadolint() -> None:
    checked(tool("hadolint"), "Dockerfile")


def test_every_place_names_one_version_and_one_day() -> None:
    released = re.findall(r"^## \[(\d\S*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    citation = read_yaml("CITATION.cff")
    assert (citation["version"], citation["date-released"]) == released[0]
    integration = tomllib.loads((ROOT / "integrations/lmms_eval/pyproject.toml").read_text(encoding="utf-8"))
    versions = {citation["version"], integration["project"]["version"], recipe()["package"]["version"]}
    assert versions == {__version__}


def test_the_citation_is_that_of_the_paper_in_readme() -> None:
    paper = read_yaml("CITATION.cff")["preferred-citation"]
    names = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{{{paper['title']}}}" in readme
    assert f"{{{names}}}" in readme
    assert paper["url"] == PROJECT["urls"]["Paper"]


def test_pypi_knows_every_classifier() -> None:
    from trove_classifiers import classifiers

    assert set(PROJECT["classifiers"]) - classifiers == set()


def test_the_pythons_are_those_that_versions_are_written_down_for() -> None:
    named = re.findall(r"Python :: (\d\.\d+)$", "\n".join(PROJECT["classifiers"]), re.M)
    matrix = read_yaml(".github/workflows/ci.yml")["jobs"]["checks"]["strategy"]["matrix"]["python"]
    assert sorted(named) == sorted(matrix) == PYTHONS


def test_ci_runs_what_this_repository_calls_ci() -> None:
    commands = [step.get("run") for step in read_yaml(".github/workflows/ci.yml")["jobs"]["checks"]["steps"]]
    assert commands[-1] == "bash .ci/run"


def test_a_tag_is_checked_and_then_published_without_a_secret() -> None:
    workflow = read_yaml(".github/workflows/release.yml")
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert (workflow["on"], workflow["permissions"]) == ({"push": {"tags": ["v*"]}}, {})
    assert 'sh run_scripts/release_check.sh "$GITHUB_REF_NAME"' in [step.get("run") for step in build["steps"]]
    assert (publish["needs"], publish["environment"]["name"]) == ("build", "pypi")
    assert (build["permissions"], publish["permissions"]) == ({"contents": "read"}, {"id-token": "write"})
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for() -> None:
    rendered = recipe()
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    assert rendered["requirements"]["run"] == [
        f"python {PROJECT['requires-python']}",
        *(f"{CONDA_NAMES.get(one.name, one.name)} {one.specifier}" for one in wanted),
    ]
    assert rendered["build"]["python"]["entry_points"] == [f"sevila = {PROJECT['scripts']['sevila']}"]
    assert (rendered["about"]["license"], rendered["about"]["license_file"]) == (PROJECT["license"], ["LICENSE"])


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("v0.0.9", f"tag v0.0.9 is not that of version {__version__} (lavis/common/defaults.py)\n"),
        (f"v{__version__}", "addresses are still placeholders (example.org) in: CITATION.cff \n"),
    ],
)
def test_a_tag_that_must_not_be_published_is_refused_before_anything_is_built(
    tmp_path: Path, tag: str, reason: str
) -> None:
    (tmp_path / "run_scripts").mkdir()
    for name in ("run_scripts/release_check.sh", "run_scripts/setup_env.sh", "lavis/common/defaults.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        (tmp_path / name).write_text("https://example.org/sevila" if name == "CITATION.cff" else "")
    command = ["sh", str(tmp_path / "run_scripts" / "release_check.sh"), tag]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"[set-up] error: {reason}")
