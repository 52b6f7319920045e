import pytest

from lavis.common import errors
from lavis.common.errors import ConfigError, counted, did_you_mean, listed


@pytest.mark.parametrize(
    "kind",
    [
        errors.VideoError,
        errors.QuestionError,
        errors.ConfigError,
        errors.CheckpointError,
        errors.AnnotationError,
        errors.MissingExtraError,
    ],
)
def test_every_mistake_of_a_user_can_be_caught_as_one_kind(kind: type[Exception]) -> None:
    assert issubclass(kind, errors.UserError)
    assert issubclass(kind, ValueError)


def test_missing_extra_says_how_to_install_it() -> None:
    error = errors.MissingExtraError("eva-decord", "decord")
    assert str(error) == "eva-decord is not installed; install it with: pip install 'sevila[decord]'"


def test_exit_codes_tell_a_failure_from_a_mistake_of_the_user() -> None:
    assert (errors.EXIT_FAILURE, errors.EXIT_USER_ERROR) == (1, 2)


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


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = str(ConfigError(f"run: unknown key {'a' * 10_000!r}; known: seed"))
    assert text.startswith("run: unknown key 'aaa")
    assert text.endswith("aaa'; known: seed")
    assert len(text) < 2100


@pytest.mark.parametrize(
    ("number", "plural", "text"),
    [
        (1, "", "1 entry"),
        (2, "entries", "2 entries"),
        (0, "entries", "0 entries"),
        (1.0, "", "1 entry"),
        (0.5, "entries", "0.5 entries"),
    ],
)
def test_a_number_agrees_with_its_noun(number: float, plural: str, text: str) -> None:
    assert counted(number, "entry", plural) == text
