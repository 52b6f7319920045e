"""Raw files in each benchmark's own layout through `sevila prepare` to questions."""

import csv
import json
import shutil
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lavis.cli.main import build_parser
from lavis.common.errors import AnnotationError, ConfigError, UserError
from lavis.common.types import Span
from lavis.datasets.annotations import read_annotations
from tests.timing import cpu_seconds_at_most

RAW = Path(__file__).parents[1] / "data" / "raw"
PUBLISHED = json.loads((RAW / "notebook_outputs.json").read_text())
BENCHMARKS = ("nextqa", "star", "how2qa", "tvqa", "vlep", "qvh")


def run(*arguments: object) -> int:
    args = build_parser().parse_args(["prepare", *map(str, arguments)])
    return int(args.run(args))


def prepared_rows(out: Path, name: str) -> dict[str, list[dict]]:
    return {f"{name}/{path.name}": json.loads(path.read_text()) for path in sorted((out / name).glob("*.json"))}


def as_we_write_it(name: str, index: int, published: dict) -> dict:
    """The published notebook's row with what it does wrong put right; the module docstrings say what and why."""
    dataset, split = name.removesuffix(".json").split("/")
    row = dict(published)
    if dataset in ("how2qa", "tvqa"):
        row["qid"] = f"{dataset.upper()}_{split}_{index}"
        times = {field: float(row.pop(field)) for field in ("start", "end")}
        row |= times if times["start"] == times["start"] else {}
    if dataset == "vlep":
        row["question"] = "What is most likely to happen next?"
        row["source"] = "youtube" if ":" in row["video"] else "tvqa"
    if (name, row["qid"]) == ("nextqa/train.json", "DO_4010703311_0"):
        row["qid"] = "DO_train_4010703311_0"
    return row


@pytest.mark.parametrize("dataset", BENCHMARKS)
def test_rows_equal_the_published_ones_where_those_are_right(tmp_path: Path, dataset: str) -> None:
    assert run(dataset, "--raw", RAW / dataset, "--out", tmp_path) == 0
    rows = prepared_rows(tmp_path, dataset)
    saliency = ("relevant_clip_ids", "saliency_scores")
    ours = {name: [{k: v for k, v in row.items() if k not in saliency} for row in rows[name]] for name in rows}
    assert ours == {
        name: [as_we_write_it(name, index, row) for index, row in enumerate(published)]
        for name, published in PUBLISHED.items()
        if name.startswith(f"{dataset}/")
    }


@pytest.mark.parametrize("dataset", BENCHMARKS)
def test_ids_are_unique_across_splits_and_keep_their_type(tmp_path: Path, dataset: str) -> None:
    run(dataset, "--raw", RAW / dataset, "--out", tmp_path)
    files = [read_annotations(path) for path in sorted((tmp_path / dataset).iterdir())]
    ids = [question.id for file in files for question in file.questions]
    assert len(ids) == len(set(ids))
    for file in files:
        published = PUBLISHED[f"{dataset}/{file.path.name}"]
        assert [question.kind for question in file.questions] == [row["qid"].split("_")[0] for row in published]


def test_saliency_scores_are_kept_for_highlight_detection(tmp_path: Path) -> None:
    run("qvh", "--raw", RAW / "qvh", "--out", tmp_path)
    row = read_annotations(tmp_path / "qvh" / "val.json").rows[1]
    assert row.saliency == {1: (1, 2, 3), 2: (4, 4, 4)}
    assert row.question.windows == (Span(2.0, 6.0), Span(20.0, 40.0))


def test_the_released_ground_truth_goes_before_the_test_file_without_windows(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(RAW / "qvh", raw)
    first = json.loads((raw / "highlight_test_release.jsonl").read_text().splitlines()[0])
    (raw / "highlight_test_with_gt.jsonl").write_text(json.dumps({**first, "relevant_windows": [[0, 4]]}))
    run("qvh", "--raw", raw, "--out", tmp_path / "out")
    (question,) = read_annotations(tmp_path / "out" / "qvh" / "test.json").questions
    assert question.windows == (Span(0.0, 4.0),)


def test_what_was_written_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("tvqa", "--raw", RAW / "tvqa", "--out", tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        f"tvqa train: 3 questions about 3 videos -> {tmp_path}/tvqa/train.json",
        "  types: TVQA 3",
        "  1 x no times given ('nan'): the question is about the whole video",
        f"tvqa val: 4 questions about 4 videos -> {tmp_path}/tvqa/val.json",
        "  types: TVQA 4",
        "  1 x no times given ('nan'): the question is about the whole video",
    ]


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    run("star", "--raw", RAW / "star", "--out", tmp_path)
    (tmp_path / "star" / "val.json").write_text("mine")
    with pytest.raises(UserError, match=r"star/val\.json would be overwritten; pass --force"):
        run("star", "--raw", RAW / "star", "--out", tmp_path)
    assert (tmp_path / "star" / "val.json").read_text() == "mine"
    run("star", "--raw", RAW / "star", "--out", tmp_path, "--force")
    assert len(read_annotations(tmp_path / "star" / "val.json")) == 3


def star_with_a_wrong_answer(folder: Path) -> Path:
    shutil.copytree(RAW / "star", folder)
    rows = json.loads((folder / "STAR_val.json").read_text())
    rows[1]["answer"] = "The whale."
    (folder / "STAR_val.json").write_text(json.dumps(rows))
    return folder


def test_an_answer_that_is_no_choice_stops_everything_and_is_named(tmp_path: Path) -> None:
    raw = star_with_a_wrong_answer(tmp_path / "raw")
    with pytest.raises(AnnotationError) as raised:
        run("star", "--raw", raw, "--out", tmp_path / "out")
    assert str(raised.value) == (
        f"{raw}/STAR_val.json, row 2, field 'answer': 'The whale.' is none of the options; mend the answer or the "
        "options; or leave bad rows out with --skip-bad of sevila prepare"
    )
    assert not (tmp_path / "out").exists()


def test_bad_rows_are_dropped_on_demand_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = star_with_a_wrong_answer(tmp_path / "raw")
    run("star", "--raw", raw, "--out", tmp_path / "out", "--skip-bad")
    questions = read_annotations(tmp_path / "out" / "star" / "val.json").questions
    assert [question.id for question in questions] == ["Prediction_T1_0", "Feasibility_T3_2"]
    assert "  dropped: 1 row\n    " in capsys.readouterr().out


def test_dropping_a_row_does_not_renumber_the_others(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(RAW / "how2qa", raw)
    lines = (raw / "how2qa_val_release.jsonl").read_text().splitlines()
    (raw / "how2qa_val_release.jsonl").write_text("\n".join([lines[0].replace("0.5-9.25", "soon"), *lines[1:]]))
    run("how2qa", "--raw", raw, "--out", tmp_path, "--skip-bad")
    questions = read_annotations(tmp_path / "how2qa" / "val.json").questions
    assert [question.id for question in questions] == ["HOW2QA_val_1", "HOW2QA_val_2"]


def test_an_unknown_dataset_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown dataset to prepare 'nextq'; did you mean 'nextqa'"):
        run("nextq", "--raw", tmp_path, "--out", tmp_path)


def test_a_folder_without_raw_files_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"holds no annotation files of tvqa; looked for tvqa_train\.jsonl, "):
        run("tvqa", "--raw", tmp_path, "--out", tmp_path)


def test_the_output_folder_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path))
    run("vlep", "--raw", RAW / "vlep")
    assert len(read_annotations(tmp_path / "vlep" / "val.json")) == 3
    monkeypatch.delenv("SEVILA_DATA")
    with pytest.raises(ConfigError, match="no output folder; pass --out DIR or set SEVILA_DATA"):
        run("vlep", "--raw", RAW / "vlep")


def test_nextqa_without_its_map_of_videos_says_where_to_put_it(tmp_path: Path) -> None:
    shutil.copy(RAW / "nextqa" / "val.csv", tmp_path)
    with pytest.raises(AnnotationError, match=r"map_vid_vidorID\.json is missing; .* put it beside the CSV files"):
        run("nextqa", "--raw", tmp_path, "--out", tmp_path)


def test_the_hubs_parquet_files_give_the_same_questions(tmp_path: Path) -> None:
    with (RAW / "nextqa" / "val.csv").open() as file:
        rows = [{**row, "answer": int(row["answer"]), "video": int(row["video"])} for row in csv.DictReader(file)]
    (tmp_path / "MC").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "MC" / "test-00000-of-00001.parquet")
    run("nextqa", "--raw", tmp_path, "--out", tmp_path)
    expected = [{**row, "video": row["video"].split("/")[1]} for row in PUBLISHED["nextqa/val.json"]]
    assert prepared_rows(tmp_path, "nextqa") == {"nextqa/test.json": expected}


def nextgqa_raw(folder: Path, *, duration: float, windows: list) -> Path:
    folder.mkdir()
    (folder / "map_vid_vidorID.json").write_text('{"401": "1100/401"}')
    (folder / "val.csv").write_text(
        "video_id,question,answer,qid,type,a0,a1,a2,a3,a4\n401,why is it red,paint,3,CW,rust,paint,light,blood,wine\n"
    )
    (folder / "gsub_val.json").write_text(
        json.dumps({"401": {"duration": duration, "location": {"3": windows}, "fps": 30}})
    )
    return folder


def test_nextgqa_questions_carry_the_windows_of_their_answers(tmp_path: Path) -> None:
    run(
        "nextgqa", "--raw", nextgqa_raw(tmp_path / "raw", duration=20, windows=[[1.5, 4], [9, 12.5]]), "--out", tmp_path
    )
    (row,) = read_annotations(tmp_path / "nextgqa" / "val.json").rows
    assert (row.question.id, row.question.answer, row.duration_s) == ("CW_401_3", 1, 20)
    assert row.question.windows == (Span(1.5, 4.0), Span(9.0, 12.5))


def test_nextgqa_windows_beyond_the_rounded_duration_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("nextgqa", "--raw", nextgqa_raw(tmp_path / "raw", duration=20, windows=[[-0.2, 20.5]]), "--out", tmp_path)
    (row,) = read_annotations(tmp_path / "nextgqa" / "val.json").rows
    assert (row.question.windows, row.duration_s) == ((Span(0.0, 20.5),), 20.5)
    assert "1 x a window starts before the video: cut at 0 s" in capsys.readouterr().out


def test_a_nextgqa_question_without_times_is_named(tmp_path: Path) -> None:
    raw = nextgqa_raw(tmp_path / "raw", duration=20, windows=[])
    with pytest.raises(AnnotationError, match="question 3 of video 401 has no usable times in the gsub file"):
        run("nextgqa", "--raw", raw, "--out", tmp_path)


def test_fifty_thousand_questions_are_prepared(tmp_path: Path) -> None:
    line = (RAW / "tvqa" / "tvqa_val.jsonl").read_text().splitlines()[0]
    (tmp_path / "tvqa_val.jsonl").write_text("\n".join([line] * 50_000))
    run("tvqa", "--raw", tmp_path, "--out", tmp_path)
    assert len(read_annotations(tmp_path / "tvqa" / "val.json")) == 50_000


@pytest.mark.slow
def test_fifty_thousand_questions_are_prepared_in_seconds(tmp_path: Path) -> None:
    with cpu_seconds_at_most(20):
        test_fifty_thousand_questions_are_prepared(tmp_path)
