"""Summing up the miniature's runs over seeds."""

from pathlib import Path

from sevila_data.miniature.figures import Drawn, Marks, Measured, render_table, summarise

VIDEOS = {"a": "one", "b": "one", "c": "two", "d": "two"}
KINDS = {"a": "shape", "b": "colour", "c": "place", "d": "motion"}
ALL_RIGHT: Marks = dict.fromkeys(VIDEOS, 1.0)
NONE_RIGHT: Marks = dict.fromkeys(VIDEOS, 0.0)
NAMES = (
    "localizer, untrained",
    "localizer, pre-trained",
    "localizer, refined only",
    "localizer, pre-trained and refined",
    "uniform",
    "oracle",
    "oracle, one frame",
    "oracle's one among four",
)


def measured(best: Marks, *, base: int = 0) -> Measured:
    runs = {name: best if "refined" in name or "oracle" in name else NONE_RIGHT for name in NAMES}
    return Measured(
        videos=VIDEOS,
        kinds=KINDS,
        runs=runs,
        inside=dict.fromkeys(NAMES, 50.0),
        answerers={"nothing (base) / localized": NONE_RIGHT, "localized frames / localized": best},
        keyframes={"4": best},
        moments={"untrained": {"R1@0.5": 10.0, "R1@0.7": 5.0, "mAP": 4.0}},
        evidence={"untrained": {"recall": 50.0, "precision": 25.0, "AP": 40.0}},
        base=base,
    )


def test_runs_are_averaged_question_by_question() -> None:
    found = summarise([measured(ALL_RIGHT), measured(ALL_RIGHT | {"a": 0.0, "c": 0.0})])
    assert found["runs"]["oracle"]["overall"]["percent"] == 75.0
    assert found["runs"]["oracle"]["by_type"]["shape"] == 50.0
    assert found["by_seed"]["oracle"] == [100.0, 50.0]
    assert (found["videos"], found["questions"]) == (2, 4)


def test_a_difference_is_bounded_over_videos_not_questions() -> None:
    drawn = Drawn.of([measured(ALL_RIGHT)])
    assert drawn.difference([ALL_RIGHT | {"a": 0.0, "b": 0.0}], [NONE_RIGHT]) == (50.0, 0.0, 100.0)


def test_what_one_base_alone_reaches_is_within_the_interval() -> None:
    good, bad = measured(ALL_RIGHT, base=0), measured(NONE_RIGHT, base=1)
    by_base = Drawn.of([good, good, bad, bad]).share([ALL_RIGHT, ALL_RIGHT, NONE_RIGHT, NONE_RIGHT])
    assert by_base == {"percent": 50.0, "low": 0.0, "high": 100.0}
    drawn = Drawn.of([measured(ALL_RIGHT), measured(ALL_RIGHT)])
    assert drawn.share([ALL_RIGHT, NONE_RIGHT]) == {"percent": 50.0, "low": 0.0, "high": 100.0}
    assert drawn.runs.sum(1).round(9).tolist() == [1.0] * len(drawn.runs)


def test_the_table_holds_figures_against_targets() -> None:
    seconds = {"shared": {"language": 600.0, "data": 300.0, "vision": 900.0, "base": 60.0}, "seeds": [{"pretrain": 60}]}
    figures = summarise([measured(ALL_RIGHT)]) | {"seeds": [0], "seconds": seconds, "remark": ""}
    lines = render_table(figures).splitlines()
    assert "| oracle at least 85 % | 100.0 % | met |" in lines
    assert "| pre-training over none: beyond the interval | +0.0 points | missed |" in lines
    assert "| at most 120 minutes from nothing for one seed | 22 minutes | met |" in lines


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    measured(ALL_RIGHT).save(file)
    assert Measured.load(file) == measured(ALL_RIGHT)
