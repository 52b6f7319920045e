"""Limits that make no sense are refused, and mistakes keep their field."""

import pytest

from lavis.common.errors import ConfigError, QuestionError
from lavis.demo.settings import DefectsLogged, FieldError, JobError, Settings, shown_beside


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_frames": 0}, "max_frames is 0; it must be 1 or more"),
        ({"max_options": 1}, "max_options is 1; a choice needs 2 or more"),
        ({"keep_s": 3601}, "keep_s is 3601; visitors are promised that files go after 3600 s"),
    ],
)
def test_limits_are_checked(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings(**settings)
    assert str(raised.value) == message


def test_a_mistake_gets_the_field_of_the_block_unless_it_has_one() -> None:
    with pytest.raises(FieldError, match=r"^empty$") as raised, shown_beside("question"):
        raise QuestionError("empty")
    assert raised.value.field == "question"
    with pytest.raises(FieldError) as inner, shown_beside("question"):
        raise FieldError("video", "none")
    assert inner.value.field == "video"
    with pytest.raises(JobError), shown_beside("question"):
        raise JobError("Cancelled.")


def test_mistakes_are_no_defects(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(QuestionError, match=r"^empty$"), DefectsLogged():
        raise QuestionError("empty")
    assert caplog.records == []
