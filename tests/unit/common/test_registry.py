import hashlib
import importlib.metadata
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lavis.common.errors import ConfigError
from lavis.common.registry import LavisRegistry, Registry, registry


@pytest.fixture
def readers() -> Registry[Any]:
    return Registry("video reader")


def test_a_decorated_part_is_found_by_its_name_and_stays_itself(readers: Registry[Any]) -> None:
    @readers.register("frames")
    class FrameFolder:
        pass

    assert readers.get("frames") is FrameFolder
    assert FrameFolder.__name__ == "FrameFolder"


def test_a_declared_part_is_imported_only_when_it_is_asked_for(
    readers: Registry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    readers.declare("hls", "colorsys:rgb_to_hls")
    assert readers.names() == ["hls"]
    assert "hls" in readers
    assert "colorsys" not in sys.modules
    part = readers.get("hls")
    assert part is sys.modules["colorsys"].rgb_to_hls
    assert readers.get("hls") is part


def test_names_are_sorted(readers: Registry[Any]) -> None:
    for name in ("torchcodec", "decord", "pyav"):
        readers.declare(name, "math:pi")
    assert readers.names() == ["decord", "pyav", "torchcodec"]


def test_an_unknown_name_is_a_user_error_with_the_nearest_and_all_known_names(readers: Registry[Any]) -> None:
    readers.declare("pyav", "math:pi")
    readers.declare("decord", "math:e")
    with pytest.raises(ConfigError) as caught:
        readers.get("pyva")
    assert str(caught.value) == "unknown video reader 'pyva'; did you mean 'pyav'? known: decord, pyav"
    assert "pyva" not in readers


def test_a_name_is_given_once_and_both_parts_are_named(readers: Registry[Any]) -> None:
    readers.declare("pyav", "math:pi")
    twice = r"^video reader 'pyav' is there twice, as math:pi and {}; give one of them another name$"
    with pytest.raises(ConfigError, match=twice.format("math:e")):
        readers.declare("pyav", "math:e")
    with pytest.raises(ConfigError, match=twice.format("builtins:object")):
        readers.register("pyav")(object())
    assert readers.get("pyav") == pytest.approx(3.14159, abs=1e-4)


def test_a_definition_that_runs_again_replaces_itself(readers: Registry[Any]) -> None:
    def define() -> type:
        @readers.register("mine")
        class Mine:
            pass

        return Mine

    assert define() is not define()
    assert readers.get("mine") is not None


def test_two_registries_share_nothing() -> None:
    first, second = LavisRegistry(), LavisRegistry()
    first.models.declare("sevila", "math:pi")
    assert second.models.names() == []


@pytest.mark.parametrize(
    ("kind", "getter"),
    [
        ("models", "get_model_class"),
        ("builders", "get_builder_class"),
        ("processors", "get_processor_class"),
        ("tasks", "get_task_class"),
        ("runners", "get_runner_class"),
    ],
)
def test_the_getters_that_lavis_users_know_read_the_same_registries(kind: str, getter: str) -> None:
    own = LavisRegistry()
    getattr(own, kind).declare("pi", "math:pi")
    assert getattr(own, getter)("pi") == 3.141592653589793


def test_models_are_listed_by_name() -> None:
    own = LavisRegistry()
    own.models.declare("b", "math:pi")
    own.models.declare("a", "math:e")
    assert own.list_models() == ["a", "b"]


def test_there_is_one_registry_for_the_package() -> None:
    assert isinstance(registry, LavisRegistry)


def test_the_parts_of_the_package_are_known_to_whoever_asks_first() -> None:
    code = "from lavis import registry; print('pyav' in registry.video_readers, registry.prompts.names())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True ['moment', 'multiple_choice', 'next_event']\n"


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LavisRegistry:
    """A registry of the test's own, which modules in its folder find as `probe`."""
    probe = LavisRegistry()
    monkeypatch.setattr("lavis.common.registry.probe", probe, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return probe


def write_module(name: str, code: str) -> None:
    Path(f"{name}.py").write_text(f"from lavis.common.registry import probe\n{code}\n", encoding="utf-8")


def test_a_module_of_the_current_folder_adds_a_part_and_is_remembered(own: LavisRegistry) -> None:
    write_module("plug_adds", "@probe.scorers.register('mine')\nclass Mine: ...")
    own.import_modules(["plug_adds", "colorsys"], place="--import")
    assert own.scorers.names() == ["mine"]
    assert own.plugins() == ["plug_adds", "colorsys"]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("plug_raises", "1 / 0", "it cannot be imported (ZeroDivisionError: division by zero); mend it"),
        ("plug_leaves", "raise SystemExit('no')", "it cannot be imported (SystemExit: no); mend it"),
        ("plug_lacks", "import nowhere_at_all", "it cannot be imported (ModuleNotFoundError: No module named "),
        (
            "plug_doubles",
            "probe.scorers.declare('there', 'b:C')",
            "frame scorer 'there' is there twice, as a:B and b:C; ",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(own: LavisRegistry, name: str, code: str, message: str) -> None:
    own.scorers.declare("there", "a:B")
    write_module(name, code)
    with pytest.raises(ConfigError) as caught:
        own.import_modules([name], place="--import")
    assert str(caught.value).startswith(f"--import {name}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.deep", "plug_there.py"])
def test_an_unknown_module_is_one_line_with_the_way_out(own: LavisRegistry, tmp_path: Path, name: str) -> None:
    write_module("plug_there", "")
    with pytest.raises(ConfigError) as caught:
        own.import_modules([name], place="run.imports")
    assert str(caught.value) == (
        f"run.imports {name}: there is no module {name!r} in {tmp_path} or among the installed packages; "
        "name it as `import` does, and start where it lies or install it"
    )


def install(folder: Path, name: str, value: str, code: str) -> None:
    """Install a package with one module and one entry point."""
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(f"[sevila.plugins]\n{name} = {value}\n", encoding="utf-8")
    write_module(name, code)


def test_an_installed_plugin_is_imported_when_a_name_is_first_asked_for(own: LavisRegistry, tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    install(tmp_path, "plug_module", "plug_module", "probe.scorers.declare('from_module', 'a:B')")
    install(tmp_path, "plug_calls", "plug_calls:add", "def add(): probe.scorers.declare('from_function', 'a:C')")
    assert "plug_module" not in sys.modules
    assert {"from_module", "from_function"} <= set(own.scorers.names())
    assert {"plug_module", "plug_calls"} <= set(own.plugins())


def test_a_broken_installed_plugin_costs_one_line_and_not_the_run(
    own: LavisRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.insert(0, str(tmp_path))
    monkeypatch.setattr(logging.getLogger("lavis"), "propagate", True)
    install(tmp_path, "plug_broken", "plug_broken:absent", "")
    install(tmp_path, "plug_sound", "plug_sound", "probe.scorers.declare('sound', 'a:B')")
    assert "sound" in own.scorers
    assert len(caplog.messages) == 1
    assert caplog.messages[0] == (
        "the plugin plug_broken = plug_broken:absent of the package plug_broken is left out: "
        "AttributeError: module 'plug_broken' has no attribute 'absent'; mend or uninstall it"
    )
    assert "plug_broken" not in own.plugins()


def test_plugins_are_named_with_their_package_s_version_or_their_content(own: LavisRegistry, tmp_path: Path) -> None:
    write_module("plug_told", "")
    own.import_modules(["plug_told", "numpy.linalg"], place="--import")
    content = hashlib.sha256((tmp_path / "plug_told.py").read_bytes()).hexdigest()
    assert own.plugin_versions() == {
        "plug_told": f"sha256 {content}",
        "numpy.linalg": f"numpy {importlib.metadata.version('numpy')}",
    }
