from typing import Any

import numpy as np
import pytest

from lavis.common.errors import UserError
from lavis.common.types import Question, Span
from lavis.datasets.annotations import Annotation
from lavis.tasks.metrics.moments import SpanRule
from lavis.tasks.metrics.questions import TYPE_GROUPS, GroundedAnswer, grounding_scores, keyframe_span, question_metrics
from lavis.tasks.predictions import Prediction
from tests.timing import cpu_seconds_at_most


def answer(correct, predicted, *windows, name="q"):
    return GroundedAnswer(name, correct, predicted, tuple(Span(*window) for window in windows))


def test_all_figures_of_three_questions():
    scores = grounding_scores(
        [
            answer(True, Span(0, 10), (0, 4)),  # IoP 0.4, IoU 0.4: right, not grounded
            answer(True, Span(10, 20), (10, 40)),  # IoP 1, IoU 1/3: right and grounded
            answer(False, Span(10, 20), (10, 20)),  # IoP 1, IoU 1: grounded, not right
            answer(True, None, (0, 4)),  # nothing predicted
        ]
    )
    assert scores == pytest.approx(
        {
            "Acc@QA": 75.0,
            "Acc@GQA": 25.0,
            "mIoP": 60.0,
            "IoP@0.3": 75.0,
            "IoP@0.5": 50.0,
            "mIoU": 100 * (0.4 + 1 / 3 + 1) / 4,
            "IoU@0.3": 75.0,
            "IoU@0.5": 25.0,
            "questions": 4,
        }
    )


def test_half_of_the_prediction_within_the_window_is_grounded():
    assert grounding_scores([answer(True, Span(0, 10), (5, 30))])["Acc@GQA"] == 100.0


def test_the_best_window_counts_for_iop_and_iou_each_on_its_own():
    scores = grounding_scores([answer(True, Span(10, 20), (0, 100), (12, 18))])
    assert (scores["mIoP"], scores["mIoU"]) == (100.0, 60.0)


def test_windows_apart_from_the_prediction_score_zero():
    scores = grounding_scores([answer(True, Span(10, 20), (30, 40))])
    assert (scores["mIoP"], scores["mIoU"], scores["Acc@GQA"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("window", "iop"), [((0, 10), 100.0), ((5, 5), 100.0), ((6, 10), 0.0)])
def test_a_single_keyframe_lies_within_or_outside(window, iop):
    scores = grounding_scores([answer(True, keyframe_span(np.array([5.0])), window)])
    assert (scores["mIoP"], scores["mIoU"]) == (iop, 0.0)


def test_keyframes_span_from_the_first_to_the_last():
    assert keyframe_span(np.array([7.0, 3.0, 5.0])) == Span(3.0, 7.0)


def test_what_cannot_be_scored_is_an_error():
    with pytest.raises(UserError, match="no keyframe"):
        keyframe_span(np.array([]))
    with pytest.raises(UserError, match="no grounded question"):
        grounding_scores([])
    with pytest.raises(UserError, match="question 'q' has no annotated window"):
        grounding_scores([answer(True, Span(0, 1))])


def pair(
    qid: str, choice: int | None, *, answer: int | None = 0, video: str = "v", windows: Any = None, **said: Any
) -> tuple[Prediction, Annotation]:
    question = Question(
        "q", ("a", "b", "c"), id=qid, answer=answer, kind=qid.partition("_")[0], video=video, windows=windows
    )
    unreadable = "no video" if choice is None else None
    return Prediction(id=qid, video=video, answer=answer, choice=choice, unreadable=unreadable, **said), Annotation(
        question
    )


def measured(*pairs: tuple[Prediction, Annotation], dataset: str = "", **settings: Any) -> dict[str, Any]:
    predictions, rows = zip(*pairs, strict=True)
    return question_metrics(
        predictions, rows, spans=SpanRule(), groups=TYPE_GROUPS.get(dataset), resamples=200, **settings
    )


def percents(estimates: dict[str, Any]) -> dict[str, float]:
    return {name: round(estimate["percent"], 3) for name, estimate in estimates.items()}


def test_nextqa_is_reported_by_group_too() -> None:
    found = measured(
        *(pair("TN_1", 0), pair("TC_1", 1), pair("TP_1", 1), pair("CW_1", 0), pair("CH_1", 1), pair("DO_1", 0)),
        dataset="nextqa",
    )["accuracy"]
    assert percents(found["by_group"]) == {"Tem": 33.333, "Cau": 50.0, "Des": 100.0}
    assert percents(found["by_type"]) == {"TN": 100, "TC": 0, "TP": 0, "CW": 100, "CH": 0, "DO": 100}
    assert found["overall"]["percent"] == 50


def test_the_mean_of_types_and_the_question_weighted_mean_are_both_named() -> None:
    found = measured(
        *(pair(f"Interaction_{number}", 0) for number in range(6)),
        *(pair("Sequence_1", 1), pair("Prediction_1", 1), pair("Feasibility_1", 0)),
        dataset="star",
    )["accuracy"]
    assert found["overall"]["percent"] == pytest.approx(100 * 7 / 9)
    assert found["mean_of_types"]["percent"] == pytest.approx(100 * 2 / 4)


def test_an_unreadable_question_is_wrong_but_for_the_second_number() -> None:
    found = measured(pair("A_1", 0), pair("A_2", None), pair("A_3", 1), pair("A_4", 0))
    assert (found["questions"], found["unreadable"]) == (4, 1)
    assert found["accuracy"]["overall"]["percent"] == 50
    assert found["accuracy"]["readable_only"]["percent"] == pytest.approx(100 * 2 / 3)


def test_questions_without_annotated_answer_are_counted_and_left_out() -> None:
    found = measured(pair("A_1", 0), pair("A_2", 1, answer=None), pair("A_3", 1))
    assert (found["questions"], found["without_answer"]) == (3, 1)
    assert found["accuracy"]["overall"] | {"low": 0, "high": 0} == {"percent": 50, "low": 0, "high": 0, "questions": 2}


def test_a_split_without_answers_has_no_accuracy() -> None:
    found = measured(pair("A_1", 0, answer=None))
    assert (found["accuracy"], found["voting"], found["grounding"]) == (None, None, None)


def test_intervals_over_videos_are_wider_where_a_video_decides() -> None:
    pairs = [pair(f"A_{number}", 0 if number < 20 else 1, video=str(number // 10)) for number in range(40)]
    found = measured(*pairs)
    widths = [
        found[name]["overall"]["high"] - found[name]["overall"]["low"] for name in ("accuracy", "accuracy_by_video")
    ]
    assert widths[1] > 2 * widths[0]
    assert found["accuracy"]["overall"]["percent"] == found["accuracy_by_video"]["overall"]["percent"]


def test_vote_mean_frame_and_best_frame_are_named_apart() -> None:
    found = measured(
        pair("A_1", 0, frame_choices=(0, 0, 1, 2)),
        pair("A_2", 1, frame_choices=(1, 1, 1, 0)),
        pair("A_3", 1, frame_choices=(1, 1, 1, 1)),
        pair("A_4", None),
    )["voting"]
    assert {name: report["overall"]["percent"] for name, report in found.items()} == {
        "voting": 25.0,
        "frame_mean": pytest.approx(100 * (0.5 + 0.25) / 4),
        "oracle": 50.0,
    }


def test_answers_read_jointly_have_no_vote() -> None:
    assert measured(pair("A_1", 0))["voting"] is None


def test_grounding_is_measured_from_keyframes_and_from_all_frames() -> None:
    windows = (Span(2.0, 6.0),)
    frames = {"frame_times_s": (1.0, 3.0, 5.0, 7.0)}
    found = measured(
        # Keyframes from 3 to 5 s lie within; the frames above the middle stand for 2 to 6 s.
        pair("A_1", 0, windows=windows, keyframe_times_s=(3.0, 5.0), frame_scores=(0.0, 9.0, 9.0, 0.0), **frames),
        # Right, but from elsewhere.
        pair("A_2", 0, windows=windows, keyframe_times_s=(7.0,), frame_scores=(0.0, 0.0, 0.0, 9.0), **frames),
        pair("A_3", None, windows=windows),
        pair("A_4", 0),
    )["grounding"]
    assert found["keyframes"]["questions"] == 3
    assert found["keyframes"]["Acc@QA"] == pytest.approx(200 / 3)
    assert found["keyframes"]["Acc@GQA"] == pytest.approx(100 / 3)
    assert found["keyframes"]["mIoP"] == pytest.approx(100 / 3)
    assert found["keyframes"]["mIoU"] == pytest.approx(50 / 3)
    assert found["frame_scores"]["mIoU"] == pytest.approx(100 / 3)


def test_keyframes_that_no_selector_scored_are_grounded_by_themselves() -> None:
    found = measured(pair("A_1", 0, windows=(Span(0, 4),), keyframe_times_s=(1.0, 3.0), frame_times_s=(1.0, 3.0)))
    assert list(found["grounding"]) == ["keyframes"]
    assert found["grounding"]["keyframes"]["IoU@0.5"] == 100


def test_five_thousand_questions_are_measured() -> None:
    kinds = ("TN", "TC", "TP", "CW", "CH", "DC", "DL", "DO")
    scores = tuple(float(number % 7) for number in range(32))
    pairs = [
        pair(
            f"{kinds[number % 8]}_{number}",
            number % 3,
            video=str(number // 9),
            windows=(Span(1.0, 9.0),),
            keyframe_times_s=(1.0, 4.0, 9.0, 12.0),
            frame_times_s=tuple(map(float, range(32))),
            frame_scores=scores,
        )
        for number in range(5000)
    ]
    predictions, rows = zip(*pairs, strict=True)
    rows_again = [Prediction.from_row(prediction.as_row(), place="here") for prediction in predictions]
    found = question_metrics(rows_again, rows, spans=SpanRule(), groups=TYPE_GROUPS["nextqa"])
    assert found["accuracy"]["overall"]["questions"] == 5000


@pytest.mark.slow
def test_five_thousand_questions_are_measured_in_seconds() -> None:
    with cpu_seconds_at_most(10):
        test_five_thousand_questions_are_measured()


def test_slices_are_told_apart():
    domains = ["Film", "Film", "Sport", None]
    rows = [
        Annotation(
            Question("?", ("x", "y"), id=str(at), answer=0, kind="short", video="v"),
            slices={"level": "L1"} | ({"domain": domain} if domain else {}),
        )
        for at, domain in enumerate(domains)
    ]
    choices = [0, 1, 0, 0]
    found = [Prediction(id=str(at), video="v", answer=0, choice=choice) for at, choice in enumerate(choices)]
    slices = question_metrics(found, rows, spans=SpanRule(), resamples=100)["slices"]
    shares = {
        name: {value: (estimate["percent"], estimate["questions"]) for value, estimate in figures.items()}
        for name, figures in slices.items()
    }
    assert shares == {"level": {"L1": (75.0, 4)}, "domain": {"Film": (50.0, 2), "Sport": (100.0, 1)}}


def test_without_slices_there_are_no_figures_by_them():
    row = Annotation(Question("?", ("x", "y"), id="0", answer=0, video="v"))
    metrics = question_metrics(
        [Prediction(id="0", video="v", answer=0, choice=0, subtitles_cut=3)], [row], spans=SpanRule(), resamples=100
    )
    assert (metrics["slices"], metrics["subtitles_cut"]) == (None, 1)
