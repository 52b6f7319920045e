import pytest

from lavis.common.naming import did_you_mean, listed


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("pyva", ["torchcodec", "pyav"], "did you mean 'pyav'? known: pyav, torchcodec"),
        ("xyz", ["torchcodec", "pyav"], "known: pyav, torchcodec"),
        ("pyav", [], "none are known"),
        ("a", ["b", "b", "a"], "did you mean 'a'? known: a, b"),
    ],
)
def test_the_nearest_name_comes_first_and_all_names_follow(name: str, known: list[str], said: str) -> None:
    assert did_you_mean(name, known) == said


def test_names_may_come_from_any_iterable() -> None:
    assert did_you_mean("tiny", (name for name in ("tinny", "base"))) == "did you mean 'tinny'? known: base, tinny"


def test_long_names_are_cut() -> None:
    assert len(listed(["x" * 10_000] * 40)) < 5000
