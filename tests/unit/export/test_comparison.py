"""The page and the picture of selectors that were compared."""

from typing import Any

import pytest

from lavis.export.comparison import comparison_page
from lavis.export.pictures import ACCENT, comparison_picture
from tests.unit.export.test_pictures import colours, count


def row(selector: str, percent: float | None, *, pair: dict[str, Any] | None = None, k: int = 4) -> dict[str, Any]:
    estimate = (
        None if percent is None else {"percent": percent, "low": percent - 1, "high": percent + 1, "questions": 9}
    )
    inside = {"percent": 50.0, "low": 40.0, "high": 60.0, "questions": 9}
    return {
        "selector": selector,
        "k": k,
        "questions": 9,
        "unreadable": 1,
        "frames_read": 4.0,
        "accuracy": estimate,
        "windows": {"any": inside, "share": {**inside, "percent": 12.5}},
        "cost": {"frames_looked_at": 32.0, "frames_scored": 16.0, "scorer_calls": 0.25, "seconds": 0.0123},
        "against": {"uniform": pair, "first": None},
    }


PAIR = {"difference": 38.25, "low": 35.0, "high": 40.96, "p_value": 1e-9, "p_holm": 1e-8, "p_value_videos": 0.0312}


def figures(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "dataset": "nextqa",
        "split": "val",
        "model": "m",
        "finetuned": [],
        "weights": {"status": "trained", "note": ""},
        "frames": {"num_frames": 32, "reader": "joint"},
        "questions": 9,
        "videos": 3,
        "note": None,
        "uniform": "uniform",
        "first": "a|b",
        "device": "cpu",
        "made": {
            "versions": {"torch": "2"},
            "commit": "abc",
            "clean": True,
            "started": "now",
            "platform": "p",
            "cpus": 2,
        },
        "rows": list(rows),
        **changes,
    }


def test_the_page_has_a_table_for_each_k_with_the_best_first() -> None:
    page = comparison_page(figures(row("uniform", 50.0), row("a|b", 88.25, pair=PAIR), row("uniform", 60.0, k=8)))
    lines = page.splitlines()
    at = lines.index("## k = 4")
    assert lines[at + 2].startswith(
        "| selector | accuracy | less uniform | p | p, videos | less a\\|b | p | p, videos |"
    )
    assert lines[at + 4] == (
        "| a\\|b | 88.2 [87.2, 89.2] | +38.2 [+35.0, +41.0] | < 0.001 | 0.031 |  |  |  | 50.0 / 12.5 | 4.0 | 32.0 "
        "| 16.0 | 0.25 | 12.3 |"
    )
    assert lines[at + 5].startswith("| uniform | 50.0 [49.0, 51.0] |  |  |  |")
    assert "## k = 8" in lines
    assert "* 9 questions about 3 videos, 1 unreadable (counted as wrong)" in lines
    assert "* commit abc, now" in lines


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights": {"status": "untrained", "note": "random"}}, "> **UNTRAINED WEIGHTS**\n\n> random\n"),
        ({"note": "It shows nothing."}, "\n\nIt shows nothing.\n\n"),
    ],
)
def test_the_page_says_what_must_be_known(changes: dict[str, Any], told: str) -> None:
    assert told in comparison_page(figures(row("uniform", 50.0), **changes))


def test_columns_that_say_nothing_are_left_out() -> None:
    page = comparison_page(figures(row("uniform", None), first="uniform"))
    assert "| selector | inside | read |" in page


def test_the_picture_shows_a_line_for_each_selector() -> None:
    rows = [row(name, low + k, k=k) for name, low in (("uniform", 50.0), ("other", 60.0)) for k in (1, 2, 4)]
    found = colours(comparison_picture(figures(*rows)))
    assert count(found, ACCENT) > 500
    assert count(found, "#e8590c") > 500
    assert count(colours(comparison_picture(figures(row("uniform", None)))), ACCENT) > 50
