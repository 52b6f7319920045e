"""The wheel holds everything it needs, installs on its own, and starts quickly."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILD_INPUTS = (
    *("lavis", "sevila_data", "configs", "sevila_checkpoints", "benchmarks", "parity"),
    *("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"),
)
MAX_START_S = 0.5
HEAVY = ("torch", "transformers", "numpy", "av", "PIL", "gradio", "matplotlib")


def run_python(*arguments: str, cwd: Path, path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def pip(*arguments: str) -> None:
    run_python("-m", "pip", "--disable-pip-version-check", *arguments, cwd=ROOT, path=ROOT)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from, with an embedded model, downloads, and what an earlier build left behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in BUILD_INPUTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, copy / name)
    for planted in ("configs/planted/deep/a.yaml", "sevila_checkpoints/planted_tiny/a.json"):
        (copy / planted).parent.mkdir(parents=True, exist_ok=True)
        (copy / planted).write_text("{}")
    for downloaded in (
        "sevila_checkpoints/sevila_pretrained.pth",
        "sevila_checkpoints/xl/model.safetensors",
        "sevila_data/nextqa/val.json",
    ):
        (copy / downloaded).parent.mkdir(parents=True, exist_ok=True)
        (copy / downloaded).write_text("gigabytes")
    stale = copy / "build" / "lib" / "lavis" / "gone.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    pip("wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(target), str(checkout))
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    pip("install", "-q", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    return target


def names_in(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def sources_of(wheel: Path) -> set[str]:
    """Where the wheel's files lie in a checkout."""
    bundled = ("lavis/configs/", "lavis/sevila_checkpoints/")
    return {name.removeprefix("lavis/") if name.startswith(bundled) else name for name in names_in(wheel)}


def test_the_wheel_holds_all_code_configs_and_the_embedded_model_and_nothing_else(checkout: Path, wheel: Path) -> None:
    code = {
        path.relative_to(checkout).as_posix()
        for package in ("lavis", "sevila_data")
        for path in (checkout / package).rglob("*.py")
        if "miniature" not in path.parts
    }
    configs = {f"lavis/{path.relative_to(checkout).as_posix()}" for path in (checkout / "configs").rglob("*.yaml")}
    embedded = {name for name in names_in(wheel) if name.startswith("lavis/sevila_checkpoints/")}
    page = {
        f"lavis/demo/{path.name}" for kind in ("css", "html", "js") for path in (ROOT / "lavis/demo").glob(f"*.{kind}")
    }
    other = {"lavis/py.typed", "sevila_data/schema.json", "sevila_data/README.md", *page}
    assert names_in(wheel) - other == code | configs | embedded
    assert {"lavis/py.typed", "lavis/configs/paper_tables.yaml", "lavis/demo/style.css", *page} <= names_in(wheel)
    assert "lavis/configs/planted/deep/a.yaml" in configs
    assert "lavis/sevila_checkpoints/planted_tiny/a.json" in embedded
    assert not any(name.endswith(".pth") or "/xl/" in name for name in embedded)


def test_tools_of_the_checkout_are_not_in_the_wheel(checkout: Path, wheel: Path) -> None:
    assert (checkout / "sevila_data" / "miniature" / "world.py").is_file()
    folders = {part for name in names_in(wheel) for part in Path(name).parts[:-1]}
    assert folders & {"benchmarks", "parity", "tests", "miniature"} <= {"miniature"}
    miniature = {name for name in names_in(wheel) if "/miniature/" in name}
    recipes = ("pretrain", "refine", "finetune", "selectors")
    assert miniature == {f"lavis/configs/sevila/miniature/{name}.yaml" for name in recipes}


def test_the_source_distribution_holds_all_that_the_wheel_is_made_of(
    checkout: Path, wheel: Path, tmp_path: Path
) -> None:
    run_python("-m", "build", "--sdist", "--no-isolation", "-o", str(tmp_path), str(checkout), cwd=checkout, path=ROOT)
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert sources_of(wheel) - held == set()
    assert not any(name.startswith(("benchmarks/", "parity/", "tests/", "sevila_data/miniature/")) for name in held)


def test_every_tracked_file_of_the_bundled_folders_is_in_the_wheel(wheel: Path) -> None:
    listing = subprocess.run(
        ["git", "ls-files", "configs", "sevila_checkpoints"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    data = {f"lavis/{name}" for name in listing if (ROOT / name).is_file() and not name.endswith(".py")}
    assert data - names_in(wheel) == set()


def test_the_image_is_given_all_that_the_wheel_is_made_of(wheel: Path) -> None:
    lines = re.findall(r"^COPY (.+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    copied = tuple(path for line in lines for path in line.split()[:-1])
    sent = tuple(line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!"))
    needed = {source for source in sources_of(wheel) if "/planted" not in source}
    needed |= {*PROJECT["license-files"], "README.md", "pyproject.toml", "setup.py"}

    def lies_in(name: str, paths: tuple[str, ...]) -> bool:
        return any(name == path or name.startswith(f"{path}/") for path in paths)

    assert {name for name in needed if not (lies_in(name, copied) and lies_in(name, sent))} == set()


def test_the_installed_package_finds_its_own_folders(site: Path, tmp_path: Path) -> None:
    script = "from lavis.common.files import *; print(configs_dir()); print(checkpoints_dir())"
    printed = run_python("-c", script, cwd=tmp_path, path=site)
    assert printed.split() == [str(site / "lavis" / "configs"), str(site / "lavis" / "sevila_checkpoints")]


def test_verify_says_that_it_needs_a_checkout(site: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lavis", "verify", str(ROOT / "tests" / "parity" / "golden")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: sevila verify needs a checkout, and this is an installed package; clone the ")
    assert done.stderr.count("\n") == 1


def test_the_metadata_names_version_licence_and_command(wheel: Path, site: Path, tmp_path: Path) -> None:
    version = run_python("-c", "import lavis; print(lavis.__version__)", cwd=tmp_path, path=site).strip()
    assert wheel.name == f"sevila-{version}-py3-none-any.whl"
    metadata = next(site.glob("sevila-*.dist-info"))
    assert "\nLicense-Expression: BSD-3-Clause\n" in (metadata / "METADATA").read_text(encoding="utf-8")
    assert (metadata / "licenses" / "LICENSE").is_file()
    assert "sevila = lavis.cli.main:main" in (metadata / "entry_points.txt").read_text(encoding="utf-8")


def test_the_page_on_pypi_links_to_this_version_of_the_repository(wheel: Path) -> None:
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    page = zipfile.ZipFile(wheel).read(name).decode()
    links = re.findall(r"\]\(([^)#][^)]*)\)", page)
    assert [link for link in links if not link.startswith("https://")] == []
    assert re.findall(r'(?:src|href)="(?!https://)[^"]+"', page) == []  # HTML in README is not rewritten
    version, address = wheel.name.split("-")[1], PROJECT["urls"]["Repository"]
    ours = [link.removeprefix(address).split("/", 3)[1:] for link in links if link.startswith(address)]
    assert {(kind, tree) for kind, tree, _ in ours} == {("blob", f"v{version}"), ("raw", f"v{version}")}
    assert [path for _, _, path in ours if not (ROOT / path.partition("#")[0]).exists()] == []


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    script = f"import json, sys, lavis; print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    assert json.loads(run_python("-c", script, cwd=tmp_path, path=ROOT)) == []


def test_listing_the_registered_parts_does_not_import_torch(tmp_path: Path) -> None:
    script = "import sys, lavis; lavis.registry.list_models(); print('torch' in sys.modules)"
    assert run_python("-c", script, cwd=tmp_path, path=ROOT) == "False\n"


def test_the_commands_help_does_without_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from lavis.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as done: assert not done.code\n"
        "print('torch' in sys.modules)"
    )
    assert run_python("-c", script, cwd=tmp_path, path=ROOT).splitlines()[-1] == "False"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("-c", "import lavis"), ("-m", "lavis", "--help")], ids=["import", "help"])
def test_import_and_help_take_less_than_half_a_second(arguments: tuple[str, ...], tmp_path: Path) -> None:
    def seconds() -> float:
        started = perf_counter()
        run_python(*arguments, cwd=tmp_path, path=ROOT)
        return perf_counter() - started

    assert median(seconds() for _ in range(5)) < MAX_START_S


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    import lavis

    with pytest.raises(AttributeError, match=r"^module 'lavis' has no attribute 'nothing'$"):
        _ = lavis.nothing
    assert set(lavis.__all__) <= set(dir(lavis))


def requirement_lines(path: Path) -> set[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line}


def test_requirements_txt_is_what_all_extras_ask_for() -> None:
    extras = PROJECT["optional-dependencies"]
    (included,) = re.findall(r"sevila\[(.*)\]", extras["all"][0])
    asked = {*PROJECT["dependencies"], *(line for extra in included.split(",") for line in extras[extra])}
    assert requirement_lines(ROOT / "requirements.txt") == asked


def test_every_extra_that_an_error_message_names_exists() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "lavis").rglob("*.py")]
    named = {extra for source in sources for extra in re.findall(r'MissingExtraError\(".*?", "(\w+)"\)', source)}
    assert named - PROJECT["optional-dependencies"].keys() == set()
    assert "timm" in named


def test_no_version_is_ruled_out_that_is_not_known_to_break() -> None:
    """Bounds from above would downgrade what people have; the versions that are known to work are in constraints/."""
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    for line in lines:
        assert re.fullmatch(r"[\w-]+(\[[\w,]+\]|>=[\d.]+)", line.partition(";")[0]), line
