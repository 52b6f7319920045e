"""The miniature's annotation rows and splits."""

from pathlib import Path

from lavis.datasets.annotations import read_annotations
from sevila_data.miniature.dataset import SPLITS, moment_rows, question_rows, videos_of, write_dataset
from sevila_data.miniature.questions import MOMENT_TEMPLATES
from sevila_data.miniature.render import DAY

SMALL = dict.fromkeys(SPLITS, 1)


def test_rows_fit_the_benchmarks_schema(tmp_path: Path) -> None:
    write_dataset(tmp_path, seed=0, sizes=SMALL)
    questions = read_annotations(tmp_path / "questions" / "test.json").questions
    assert len(questions) == 8
    assert all(len(question.options) == 5 and question.answer is not None for question in questions)
    moments = read_annotations(tmp_path / "moments" / "train.json").questions
    assert len(moments) == len(MOMENT_TEMPLATES)
    assert all(query.windows for query in moments)
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == len(SPLITS)


def test_a_smaller_split_is_the_beginning_of_a_larger_one() -> None:
    assert question_rows("val", 1, seed=0) == question_rows("val", 2, seed=0)[:8]
    assert moment_rows("test", 1, seed=0) == moment_rows("test", 2, seed=0)[: len(MOMENT_TEMPLATES)]


def test_no_two_splits_share_a_video() -> None:
    videos = [video.scenes for split in SPLITS for video in videos_of(split, 3, seed=0)]
    assert len(set(videos)) == len(videos)


def test_another_seed_gives_other_videos() -> None:
    first, second = (next(videos_of("test", 1, seed=seed)) for seed in (0, 1))
    assert first.scenes != second.scenes


def test_all_videos_but_the_bases_are_of_the_evening_unless_all_are_by_day(tmp_path: Path) -> None:
    sizes = dict.fromkeys(SPLITS, 0) | {"base": 1, "test": 1}
    write_dataset(tmp_path / "lit", seed=0, sizes=sizes)
    write_dataset(tmp_path / "day", seed=0, sizes=sizes, light=DAY)
    base, test = (
        [(tmp_path / folder / "videos" / f"{split}_0000.mp4").read_bytes() for folder in ("lit", "day")]
        for split in ("base", "test")
    )
    assert base[0] == base[1]
    assert test[0] != test[1]
