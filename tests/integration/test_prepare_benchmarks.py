"""Benchmarks for today's models, in their own layouts and with values like theirs, through `sevila prepare`."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from lavis.cli.main import build_parser
from lavis.common.errors import AnnotationError
from lavis.common.types import Question, Span, Subtitle
from lavis.datasets.annotations import Annotation, read_annotations
from tests.integration.evaluation.new_benchmarks import LVB_ROW, VIDEO_MME_ROW, write_lines


def prepared(name: str, raw: Path, *flags: str) -> dict[str, tuple[Annotation, ...]]:
    """The rows of every split that the command makes."""
    out = raw.parent / "out"
    args = build_parser().parse_args(["prepare", name, "--raw", str(raw), "--out", str(out), "--force", *flags])
    assert args.run(args) == 0
    return {file.stem: read_annotations(file).rows for file in sorted((out / name).glob("*.json"))}


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


SRT = """1
00:00:01,250 --> 00:00:03,000
<font color="white" size=".72c">merry christmas</font>

2
00:01:02,000 --> 01:00:00,500
[Music]
and a happy new year

3
00:01:05,000 --> 00:01:06,000
<font color="white" size=".72c"></font>
"""


def test_video_mme(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = {**VIDEO_MME_ROW, "video_id": "301", "videoID": "N1cdUjctpG8", "question_id": "301-1", "duration": "medium"}
    written(raw / "test.jsonl", write_lines([VIDEO_MME_ROW, other]))
    written(raw / "subtitle" / "fFjv93ACGo8.srt", SRT)
    first, second = prepared("videomme", raw)["test"]
    assert first.question == Question(
        "Which kind of decoration has the largest number?",
        ("Apples.", "Candles.", "Berries.", "The three kinds are of the same number."),
        id="001-1",
        answer=2,
        kind="short",
        video="fFjv93ACGo8",
        subtitles=(
            Subtitle(1.25, 3.0, "merry christmas"),
            Subtitle(62.0, 3600.5, "[Music] and a happy new year"),
        ),
    )
    assert first.slices == {
        "domain": "Knowledge",
        "sub_category": "Humanity & History",
        "task_type": "Counting Problem",
    }
    assert (second.question.kind, second.question.video, second.question.subtitles) == ("medium", "N1cdUjctpG8", ())
    assert "1 x no subtitles of its video: asked without" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["parquet", "json", "csv"])
def test_video_mme_in_other_formats(raw: Path, kind: str) -> None:
    written(raw / "test.jsonl", write_lines([VIDEO_MME_ROW]))
    expected = prepared("videomme", raw)
    (raw / "test.jsonl").unlink()
    if kind == "parquet":
        (raw / "videomme").mkdir()
        parquet.write_table(
            pyarrow.Table.from_pylist([VIDEO_MME_ROW]), raw / "videomme" / "test-00000-of-00001.parquet"
        )
    elif kind == "json":
        written(raw / "test.json", [VIDEO_MME_ROW])
    else:
        cells = {**VIDEO_MME_ROW, "options": str(VIDEO_MME_ROW["options"])}
        quoted = ['"' + str(cell).replace('"', '""') + '"' for cell in cells.values()]
        written(raw / "test.csv", ",".join(cells) + "\n" + ",".join(quoted) + "\n")
    assert prepared("videomme", raw) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"options": ["A. Apples.", "Candles.", "C. Berries."]},
            "field 'options': 'Candles.' does not begin with its letter, 'B. '; mend the options",
        ),
        (
            {"options": ["A. Apples.", "C. Berries."]},
            "field 'options': 'C. Berries.' does not begin with its letter, 'B. '; mend the options",
        ),
        ({"options": "apples"}, "field 'options': 'apples' is not a list of options such as [\"red\", \"blue\"]"),
        ({"answer": "E"}, "field 'answer': 'E' is none of the letters A to D of the options"),
        ({"answer": "C."}, "field 'answer': 'C.' is none of the letters A to D of the options"),
        ({"question": None}, "field 'question': is missing"),
    ],
)
def test_a_bad_row_of_video_mme_is_named_by_file_and_line(raw: Path, change: dict, message: str) -> None:
    file = written(raw / "test.jsonl", write_lines([VIDEO_MME_ROW, {**VIDEO_MME_ROW, "question_id": "2", **change}]))
    with pytest.raises(AnnotationError) as raised:
        prepared("videomme", raw)
    assert str(raised.value).startswith(f"{file}, line 2, {message}")
    assert "\n" not in str(raised.value)
    assert len(prepared("videomme", raw, "--skip-bad")["test"]) == 1


def test_a_bad_time_in_a_subtitle_file_is_named(raw: Path) -> None:
    written(raw / "test.jsonl", write_lines([VIDEO_MME_ROW]))
    file = written(raw / "subtitle" / "fFjv93ACGo8.srt", "1\nsoon --> 00:00:03,000\nhello\n")
    with pytest.raises(
        AnnotationError, match=r"subtitle 1, field 'time': 'soon ' is not a time such as 00:01:02\.5"
    ) as e:
        prepared("videomme", raw)
    assert str(file) in str(e.value)


def test_longvideobench(raw: Path) -> None:
    later = {
        **{**LVB_ROW, "id": "86CxyhFV9MI_1", "starting_timestamp_for_subtitles": 60, "duration": 12.5},
        **{"duration_group": 15, "correct_choice": 0},
    }
    written(raw / "lvb_val.json", [LVB_ROW, later])
    written(raw / "lvb_test_wo_gt.json", [{**LVB_ROW, "id": "x_0", "correct_choice": -1}])
    subtitles = [
        {"start": "00:00:04.250", "end": "00:00:06.000", "line": "run away countless times"},
        {"timestamp": [61.5, 63.0], "text": "like a world of souls"},
        {"timestamp": [70.0, None], "text": "[applause]"},
    ]
    written(raw / "subtitles" / "86CxyhFV9MI_en.json", subtitles)
    found = prepared("longvideobench", raw)
    first, second = found["val"]
    assert first.question == Question(
        "What color is the woman's clothing at that moment?",
        ("yellow", "green", "blue", "red"),
        id="86CxyhFV9MI_0",
        answer=3,
        kind="600",
        video="86CxyhFV9MI",
        subtitles=(
            Subtitle(4.25, 6.0, "run away countless times"),
            Subtitle(61.5, 63.0, "like a world of souls"),
            Subtitle(70.0, 190.16, "[applause]"),
        ),
    )
    assert first.slices == {"question_category": "T2A", "level": "L1-Perception"}
    assert second.question.subtitles == (
        Subtitle(1.5, 3.0, "like a world of souls"),
        Subtitle(10.0, 12.5, "[applause]"),
    )
    assert (second.question.kind, second.question.answer) == ("15", 0)
    assert [row.question.answer for row in found["test"]] == [None]


def test_longvideobench_s_parquet_has_a_column_for_each_option(raw: Path) -> None:
    row = {name: value for name, value in LVB_ROW.items() if name not in ("candidates", "level", "position")}
    row |= {**{f"option{at}": text for at, text in enumerate(LVB_ROW["candidates"])}, "option4": "N/A"}
    raw.mkdir()
    parquet.write_table(pyarrow.Table.from_pylist([row]), raw / "validation-00000-of-00001.parquet")
    (found,) = prepared("longvideobench", raw)["val"]
    assert (found.question.options, found.question.answer) == (("yellow", "green", "blue", "red"), 3)
    assert found.slices == {"question_category": "T2A"}


def test_mlvu(raw: Path) -> None:
    plot = {
        **{"video": "movie101_66.mp4", "duration": 246, "question_type": "plotQA"},
        **{"question": "What color is the main male character in the video?", "answer": "Yellow"},
        "candidates": ["Yellow", "Red", "Green", "Blue"],
    }
    order = {
        **{"video": "order_214.mp4", "duration": 485.77, "question_type": "order", "question": "In which order?"},
        **{"candidates": ["2->1->3->4", "1->2->3->4"], "answer": "1->2->3->4"},
    }
    written(raw / "json" / "1_plotQA.json", [plot, {**plot, "question": "And his hat?", "answer": "Blue"}])
    written(raw / "json" / "5_order.json", [order])
    written(raw / "json" / "9_summary.json", [{"video": "217.mp4", "question": "Summarize.", "answer": "A man."}])
    unanswered = {name: value for name, value in plot.items() if name != "answer"}
    written(raw / "test_question.json", [{**unanswered, "video": "test_12.mp4", "question_id": "PQA_0"}])
    found = prepared("mlvu", raw)
    assert [row.question for row in found["val"]] == [
        Question(
            "What color is the main male character in the video?",
            ("Yellow", "Red", "Green", "Blue"),
            **{"id": "plotQA_1", "answer": 0, "kind": "plotQA", "video": "1_plotQA/movie101_66"},
        ),
        Question(
            "And his hat?",
            ("Yellow", "Red", "Green", "Blue"),
            **{"id": "plotQA_2", "answer": 3, "kind": "plotQA", "video": "1_plotQA/movie101_66"},
        ),
        Question(
            "In which order?",
            ("2->1->3->4", "1->2->3->4"),
            **{"id": "order_1", "answer": 1, "kind": "order", "video": "5_order/order_214"},
        ),
    ]
    (test,) = found["test"]
    assert (test.question.id, test.question.video, test.question.answer) == ("PQA_0", "test_12", None)


def test_an_answer_of_mlvu_that_is_no_candidate_is_named_by_its_file(raw: Path) -> None:
    row = {"video": "a.mp4", "question": "?", "candidates": ["x", "y"], "answer": "z", "question_type": "order"}
    file = written(raw / "5_order.json", [row])
    with pytest.raises(AnnotationError) as raised:
        prepared("mlvu", raw)
    assert str(raised.value).startswith(f"{file}, row 1, field 'answer': 'z' is none of the options")


UID, OTHER_UID = "00faf954-74f7-4aa3-8b29-4a5dff4f9518", "001934bb-81bd-4cd8-a574-0472ef3f6678"
OPTIONS = [f"C {verb} clay." for verb in ("cleans", "scoops", "throws", "cuts", "paints")]


def egoschema(folder: Path) -> None:
    rows = [
        {
            **{"q_uid": uid, "google_drive_id": "17vdvmp5BUcxwdUl_Rhq4WYpa_AVeA_IN", "question": "What does c do?"},
            **{f"option {at}": text for at, text in enumerate(OPTIONS)},
        }
        for uid in (OTHER_UID, UID)
    ]
    written(folder / "questions.json", rows)
    written(folder / "subset_answers.json", {UID: 4})


def test_egoschema(raw: Path) -> None:
    egoschema(raw)
    found = prepared("egoschema", raw)
    assert [row.question for row in found["val"]] == [
        Question("What does c do?", tuple(OPTIONS), id=UID, answer=4, video=UID)
    ]
    # The public questions are in the full set too, where their answers do not count.
    assert [(row.question.id, row.question.video, row.question.answer) for row in found["test"]] == [
        (OTHER_UID, OTHER_UID, None),
        (f"{UID}_test", UID, None),
    ]


def test_egoschema_of_the_hub(raw: Path) -> None:
    options = [f"{letter}. {text}" for letter, text in zip("ABCDE", OPTIONS, strict=True)]
    row = {"question_idx": "0", "question": "What does c do?", "video_idx": UID, "option": options, "answer": "4"}
    for config, answer in (("Subset", "4"), ("MC", "")):
        (raw / config).mkdir(parents=True)
        table = pyarrow.Table.from_pylist([{**row, "answer": answer}])
        parquet.write_table(table, raw / config / "test-00000-of-00001.parquet")
    found = prepared("egoschema", raw)
    assert [row.question for row in found["val"]] == [
        Question("What does c do?", tuple(OPTIONS), id=UID, answer=4, video=UID)
    ]
    assert [row.question.answer for row in found["test"]] == [None]


def test_egoschema_without_its_questions_or_with_those_of_another_release(raw: Path) -> None:
    egoschema(raw)
    questions = (raw / "questions.json").read_text()
    written(raw / "questions.json", [json.loads(questions)[0]])
    with pytest.raises(AnnotationError, match=f"questions.json lacks 1 of the questions in .*, such as {UID}"):
        prepared("egoschema", raw)
    (raw / "questions.json").unlink()
    with pytest.raises(
        AnnotationError, match=r"questions\.json is missing; it holds the questions that subset_answers"
    ):
        prepared("egoschema", raw)


def test_mvbench(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sequence = {
        **{
            "video": "ZS9XR.mp4",
            "question": "What happened after the person took the food?",
            "start": 11.1,
            "end": 18.4,
        },
        **{"candidates": ["Ate the medicine.", "Tidied up the blanket."], "answer": "Ate the medicine."},
        "question_id": "Sequence_T1_13",
    }
    antonym = {
        **{"video": "166583.webm", "question": "Which action is it?", "answer": "not sure", "start": 1, "end": 2},
        "candidates": ["Book falling", "Book rising", "not sure"],
    }
    episode = {
        **{"video": "castle_s02e09_seg02_clip_00", "question": "Why did Castle laugh?", "fps": 3.0},
        **{"candidates": ["He won", "He lost"], "answer": "He lost", "start": 0.0, "end": 42.5},
    }
    backwards = {**episode, "question": "And why did he leave?", "start": 9.0, "end": 9.0}
    written(raw / "json" / "action_sequence.json", [sequence])
    written(raw / "json" / "action_antonym.json", [antonym])
    written(raw / "json" / "episodic_reasoning.json", [episode, backwards])
    by_id = {row.question.id: row.question for row in prepared("mvbench", raw)["test"]}
    assert by_id["action_sequence_1"] == Question(
        "What happened after the person took the food?",
        ("Ate the medicine.", "Tidied up the blanket."),
        **{"id": "action_sequence_1", "answer": 0, "kind": "action_sequence"},
        **{"video": "star/Charades_v1_480/ZS9XR", "clip": Span(11.1, 18.4)},
    )
    assert by_id["action_antonym_1"] == Question(
        "Which action is it?",
        ("Book falling", "Book rising", "not sure"),
        **{"id": "action_antonym_1", "answer": 2, "kind": "action_antonym", "video": "ssv2_video/166583"},
    )
    assert by_id["episodic_reasoning_1"].video == "tvqa/frames_fps3_hq/castle_s02e09_seg02_clip_00"
    assert (by_id["episodic_reasoning_1"].clip, by_id["episodic_reasoning_2"].clip) == (Span(0.0, 42.5), None)
    assert "1 x its part ends before it starts: the question is about the whole video" in capsys.readouterr().out


def test_a_file_that_is_no_task_of_mvbench_is_named(raw: Path) -> None:
    written(raw / "json" / "extra.json", [{"video": "a.mp4"}])
    with pytest.raises(AnnotationError, match=r"extra\.json is none of the 20 tasks' files; take it away"):
        prepared("mvbench", raw)


def test_charades_sta(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(raw / "charades_sta_test.txt", "3MSZA 24.3 30.4##person turn a light on.\r\n\r\n")
    written(
        raw / "charades_sta_train.txt", "AO8RW 0.0 6.9##a person is putting a book on a shelf.\nLEOL6 8.0 7.0##x.\n"
    )
    found = prepared("charades_sta", raw)
    assert [row.question for row in found["test"]] == [
        Question(
            "person turn a light on.",
            **{"id": "CharadesSTA_test_0", "kind": "CharadesSTA", "video": "3MSZA", "windows": (Span(24.3, 30.4),)},
        )
    ]
    assert [row.question.windows for row in found["train"]] == [(Span(0.0, 6.9),), (Span(7.0, 8.0),)]
    assert "1 x a window ends before it starts: turned round" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3MSZA 24.3##x.", "'3MSZA 24.3##x.' is not VIDEO START END##sentence"),
        ("3MSZA 24.3 soon##x.", "'soon' is not a finite number"),
        ("3MSZA 24.3 30.4##", "field 'query'"),
    ],
)
def test_a_bad_line_of_charades_sta_is_named(raw: Path, line: str, message: str) -> None:
    file = written(raw / "charades_sta_test.txt", f"3MSZA 24.3 30.4##person turn a light on.\n{line}\n")
    with pytest.raises(AnnotationError) as raised:
        prepared("charades_sta", raw)
    assert str(raised.value).startswith(f"{file}, line 2, field ")
    assert message in str(raised.value)


def tacos(**changes: Any) -> dict[str, Any]:
    entry = {
        **{"timestamps": [[224, 358], [1000, 1300]], "sentences": ["He took out a pan", "He took out an egg"]},
        **{"fps": 25.0, "num_frames": 1250},
    }
    return {"s17-d69.avi": {**entry, **changes}}


def test_tacos_windows_are_counted_in_frames(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(raw / "val.json", tacos())
    first, second = prepared("tacos", raw)["val"]
    assert first.question == Question(
        "He took out a pan",
        **{"id": "TACoS_s17-d69_0", "kind": "TACoS", "video": "s17-d69", "windows": (Span(8.96, 14.32),)},
    )
    assert (first.duration_s, second.question.windows) == (50.0, (Span(40.0, 50.0),))
    assert "1 x a window ends after the video: cut there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sentences": ["only one"]}, "video 's17-d69.avi' has not as many timestamps as sentences"),
        ({"timestamps": [[224, 358], [1000]]}, "sentence 2, field 'timestamps': [1000] at 25 frames a second is not"),
        ({"fps": 0}, "sentence 1, field 'timestamps': [224, 358] at 0 frames a second is not"),
        ({"fps": None}, "sentence 1, field 'fps': is missing"),
    ],
)
def test_a_bad_video_of_tacos_is_named(raw: Path, changes: dict, message: str) -> None:
    file = written(raw / "val.json", tacos(**changes))
    with pytest.raises(AnnotationError) as raised:
        prepared("tacos", raw)
    assert str(file) in str(raised.value)
    assert message in str(raised.value)


LABELS = [[1.0, 3.0], [5.0, 4.0], [2.0, 1.0]]


def test_tvsum_of_qd_detr(raw: Path) -> None:
    row = {
        **{"qid": "sTEELN-vY30", "query": "BBC - Train crash 2013", "duration": 3, "vid": "sTEELN-vY30"},
        **{"relevant_clip_ids": None, "relevant_windows": None, "label": LABELS, "domain": "VU"},
    }
    written(raw / "tvsum_val.jsonl", json.dumps(row) + "\n")
    (found,) = prepared("tvsum", raw)["val"]
    assert found == Annotation(
        Question("BBC - Train crash 2013", id="TVSum_sTEELN-vY30", kind="VU", video="sTEELN-vY30"),
        duration_s=6.0,
        saliency={0: (1, 3), 1: (5, 4), 2: (2, 1)},
    )


def test_tvsum_of_its_authors_has_a_rating_for_each_frame(raw: Path) -> None:
    # 6.9 s at 10 frames a second; its length is given as 6 s.
    frames = [[labels[min(frame // 20, 2)] for frame in range(69)] for labels in zip(*LABELS, strict=True)]
    lines = [
        f"{video}\tVU\t{','.join(f'{rating:.0f}' for rating in ratings)}"
        for video in ("sTEELN-vY30", "akI8YFjEmUw")
        for ratings in frames
    ]
    written(raw / "ydata-tvsum50-anno.tsv", "\n".join(lines) + "\n")
    header = "category\tvideo_id\ttitle\turl\tlength"
    rows = [f"VU\t{video}\tA title\thttps://example.org\t0:06" for video in ("sTEELN-vY30", "akI8YFjEmUw")]
    info = written(raw / "ydata-tvsum50-info.tsv", "\n".join([header, *rows]) + "\n")
    found = prepared("tvsum", raw)
    assert {split: [row.question.video for row in rows] for split, rows in found.items()} == {
        "train": ["akI8YFjEmUw"],
        "val": ["sTEELN-vY30"],
    }
    assert found["val"][0].saliency == {0: (1, 3), 1: (5, 4), 2: (2, 1)}
    assert found["val"][0].duration_s == 6.0
    info.unlink()
    with pytest.raises(AnnotationError, match=r"info\.tsv is missing; it holds the titles and lengths of the videos"):
        prepared("tvsum", raw)


@pytest.mark.parametrize("labels", [[], [[1, 2], [1]], [1, 2]])
def test_bad_ratings_of_tvsum_are_named(raw: Path, labels: list) -> None:
    written(raw / "tvsum_val.jsonl", json.dumps({"vid": "a", "query": "b", "domain": "VU", "label": labels}))
    with pytest.raises(AnnotationError, match=r"tvsum_val\.jsonl, line 1, field 'label': is not a list of clips with"):
        prepared("tvsum", raw)


@pytest.mark.parametrize(
    "name", ["videomme", "longvideobench", "mlvu", "egoschema", "mvbench", "charades_sta", "tacos", "tvsum"]
)
def test_a_folder_without_files_says_what_was_looked_for(raw: Path, name: str) -> None:
    raw.mkdir()
    with pytest.raises(AnnotationError, match=f"{raw} holds no annotation files of {name}; looked for "):
        prepared(name, raw)
