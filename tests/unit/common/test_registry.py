import sys
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


def test_a_name_is_given_once(readers: Registry[Any]) -> None:
    readers.declare("pyav", "math:pi")
    with pytest.raises(RuntimeError, match=r"^video reader 'pyav' is registered twice$"):
        readers.declare("pyav", "math:e")
    with pytest.raises(RuntimeError, match=r"^video reader 'pyav' is registered twice$"):
        readers.register("pyav")(object())


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
