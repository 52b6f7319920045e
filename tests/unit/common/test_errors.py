import pytest

from lavis.common import errors


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
