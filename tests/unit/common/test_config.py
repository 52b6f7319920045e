from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import pytest

from lavis.common.config import Count, Finite, Share, TrainingOnly, effect_of, from_mapping, one_of
from lavis.common.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    size: Count
    kind: Annotated[str, one_of("mean", "max")] = "mean"


@dataclass(frozen=True)
class Outer:
    inner: Inner
    share: TrainingOnly[Share | None] = None
    means: tuple[Finite, Finite] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    other: Inner | None = None
    flag: bool = False


def test_lists_mappings_and_whole_numbers_become_what_the_fields_are() -> None:
    read = from_mapping(
        Outer, {"inner": {"size": 3}, "share": 1, "means": [1, 0.1], "names": ["a"], "other": {"size": 1}}, place="run"
    )
    assert read == Outer(Inner(3), 1.0, (1.0, 0.1), ("a",), {}, Inner(1))
    assert [type(value) for value in (read.share, *read.means)] == [float] * 3


def test_a_configuration_is_read_back_as_it_was() -> None:
    settings = Outer(Inner(2, "max"), 0.1 + 0.2, (1e-300, -5e-324), ("ü", "𝒳"), {"a": [1, {"b": None}], "c": 2**70})
    assert from_mapping(Outer, asdict(settings), place="run") == settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": 5}, "run.inner: a mapping is needed, not 5"),
        ({"inner": {}}, "run.inner: the key 'size' is missing"),
        ({"inner": {"size": True}}, "run.inner: size: int is needed, not True"),
        ({"inner": {"size": 1.0}}, "run.inner: size: int is needed, not 1.0"),
        ({"inner": {"size": 0}}, "run.inner.size is 0; it must be 1 or more"),
        ({"inner": {"sise": 1}}, "run.inner: unknown key 'sise'; did you mean 'size'? known: kind, size"),
        ({"other": {"size": 1, "kind": "men"}}, "run.other.kind: unknown 'men'; did you mean 'mean'? known: max, mean"),
        ({"other": {"size": 1, "knd": "max"}}, "run.other: unknown key 'knd'; did you mean 'kind'? known: kind, size"),
        ({"flag": "yes"}, "run: flag: bool is needed, not 'yes'"),
        ({"share": "0.5"}, "run: share: float is needed, not '0.5'"),
        ({"share": float("nan")}, "run.share is nan; it must be from 0 to 1"),
        ({"means": [1.0, float("inf")]}, "run.means is inf; it must be a finite number"),
        ({"names": "ab"}, "run: names: tuple is needed, not 'ab'"),
        ({"names": ["a", 3]}, "run: names: str is needed, not 3"),
        ({"more": [1]}, "run: more: dict is needed, not [1]"),
        ({1: 2}, "run: unknown key '1'; known: flag, inner, means, more, names, other, share"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_mapping(Outer, {"inner": {"size": 1}, **change}, place="run")
    assert str(error.value) == message


@pytest.mark.parametrize("change", [{"means": [1]}, {"means": [1, 2, 3]}, {"names": ["\ud800"]}, {"names": [b"x"]}])
def test_what_else_cannot_be_is_refused_in_one_line(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\Arun[.:].*\Z"):
        from_mapping(Outer, {"inner": {"size": 1}, **change}, place="run")


def test_a_mapping_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^here: a mapping is needed, not \[\]$"):
        from_mapping(Outer, [], place="here")  # type: ignore[arg-type]


def test_what_depends_on_a_setting_is_read_from_its_annotation() -> None:
    assert (effect_of(Outer, "share"), effect_of(Outer, "inner.size")) == ("training", "predictions")
