import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lavis.common.errors import AnnotationError, ConfigError, UserError
from lavis.datasets.annotations import read_annotations, write_annotations
from lavis.datasets.builder import load_dataset_config, read_splits, storage_of
from lavis.datasets.checking import CheckReport, DatasetCheck, Journal, Stamp, VideoFacts
from lavis.datasets.videos import VideoFolders
from tests.timing import cpu_seconds_at_most
from tests.videos import write_video


def row(qid: str, video: str, **fields: Any) -> dict[str, Any]:
    options = {"num_option": 2, "a0": "x", "a1": "y", "answer": 0}
    return {"video": video, "qid": qid, "question": "What?", **options, **fields}


VAL = [
    row("T_0", "long"),
    row("T_1", "long", start=0.4, end=1.2),
    row("T_2", "long", start=30, end=40),
    row("T_3", "long", start=1.0, end=9.0),
    row("T_4", "sub/webm"),
    row("T_5", "broken"),
    row("T_6", "broken", start=0, end=1),
    row("T_7", "gone"),
    row("T_8", "frames"),
    row("T_9", "cut"),
]
TRAIN = [row("T_10", "copy"), row("T_11", "gone"), row("T_12", "twice")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    first, second = folder / "first", folder / "second"
    for made in (first / "sub", first / "frames", second / "deep"):
        made.mkdir(parents=True)
    write_video(first / "long.mp4", num_frames=50)
    write_video(first / "sub" / "webm.webm", num_frames=10, codec="libvpx")
    write_video(first / "cut.MP4", num_frames=20)
    (first / "broken.mp4").write_bytes(b"no video")
    for number in range(3):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(first / "frames" / f"{number}.jpg")
    shutil.copy(first / "long.mp4", second / "copy.mp4")
    write_video(first / "twice.mp4", num_frames=12)
    write_video(second / "twice.mkv", num_frames=13)
    write_video(second / "deep" / "gone.mp4", num_frames=5)
    write_annotations(folder / "val.json", VAL)
    write_annotations(folder / "train.json", TRAIN)
    return folder


def check(root: Path, folder: Path, *, splits: tuple[str, ...] = ("train", "val"), **options: Any) -> CheckReport:
    videos = VideoFolders.from_storage([str(root / "first"), str(root / "second")], place="here")
    annotations = {split: read_annotations(root / f"{split}.json") for split in splits}
    return DatasetCheck(videos, folder=folder, fps=3.0, **options).run("nextqa", annotations)


def found(report: CheckReport, root: Path) -> dict[str, Any]:
    problems = {
        (problem.kind, problem.video): sorted(question for _, question in problem.lost) for problem in report.problems
    }
    duplicates = {
        (duplicate.kind, duplicate.videos): [Path(path).relative_to(root).as_posix() for path in duplicate.paths]
        for duplicate in report.duplicates
    }
    return {"problems": problems, "duplicates": duplicates, "cut": report.cut}


EXPECTED = {
    "problems": {
        ("missing", "gone"): ["T_11", "T_7"],
        ("unreadable", "broken"): ["T_5", "T_6"],
        ("too short", "long"): ["T_2"],
    },
    "duplicates": {
        ("two files for one name", ("twice",)): ["first/twice.mp4", "second/twice.mkv"],
        ("same content", ("copy", "long")): ["second/copy.mp4", "first/long.mp4"],
    },
    "cut": ("T_3",),
}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_problem_is_found_with_the_questions_it_costs(root: Path, tmp_path: Path, num_workers: int) -> None:
    report = check(root, tmp_path, num_workers=num_workers)
    assert found(report, root) == EXPECTED
    counts = {name: (split.questions, split.videos, split.lost) for name, split in report.splits.items()}
    assert counts == {"train": (3, 3, 1), "val": (10, 6, 4)}
    assert (report.num_questions, report.num_lost) == (13, 5)
    assert report.elsewhere == {"gone": str(root / "second" / "deep" / "gone.mp4")}


def test_videos_of_the_same_content_in_two_splits_are_told(root: Path, tmp_path: Path) -> None:
    (same,) = [item for item in check(root, tmp_path).duplicates if item.kind == "same content"]
    assert same.splits == ("train", "val")
    assert "same content (in train, val)" in check(root, tmp_path).as_text()


def test_a_check_that_was_stopped_goes_on_and_counts_everything_once(root: Path, tmp_path: Path) -> None:
    def stop_after_two(what: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(root, tmp_path, progress=stop_after_two)
    journal = tmp_path / "check.jsonl"
    with journal.open("a") as file:
        file.write('{"path": "half a li')
    seen: list[tuple[str, int, int]] = []
    report = check(root, tmp_path, progress=lambda *done: seen.append(done))
    assert found(report, root) == EXPECTED
    # 7 of the 8 videos are there, 1 of the 2 that were done is in the journal (the other was not written yet).
    assert [done for what, done, _ in seen if what == "looking at videos"] == [2, 3, 4, 5, 6, 7]
    lines = [json.loads(line) for line in journal.read_text().split("\n") if line.endswith("}")]
    looked_at = [line["path"] for line in lines if "facts" in line]
    assert len(looked_at) == len(set(looked_at)) == 7


def test_a_finished_check_reads_nothing_again_but_what_changed(root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    shutil.copytree(root, copied)
    check(copied, tmp_path)
    seen: list[tuple[str, int, int]] = []
    assert found(check(copied, tmp_path, progress=lambda *done: seen.append(done)), copied) == EXPECTED
    assert seen == []
    write_video(copied / "first" / "broken.mp4", num_frames=40)
    report = check(copied, tmp_path, progress=lambda *done: seen.append(done))
    assert [problem.kind for problem in report.problems] == ["missing", "too short"]
    assert [what for what, _, _ in seen] == ["looking at videos"]


def test_other_settings_start_a_new_journal(tmp_path: Path) -> None:
    path, stamp = Path("x.mp4"), Stamp(1, 2)
    Journal(tmp_path / "j", settings={"fps": 3}).add("facts", path, stamp, VideoFacts(None, 5, 25.0, 0.2, ("cut",)))
    assert Journal(tmp_path / "j", settings={"fps": 3}).get("facts", path, stamp) == VideoFacts(
        None, 5, 25.0, 0.2, ("cut",)
    )
    assert Journal(tmp_path / "j", settings={"fps": 3}).get("facts", path, Stamp(1, 3)) is None
    assert Journal(tmp_path / "j", settings={"fps": 4}).get("facts", path, stamp) is None


def test_a_journal_that_cannot_be_written_is_a_user_error(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*check\.jsonl"):
        check(root, tmp_path / "file")


def test_frame_folders_need_their_rate(root: Path, tmp_path: Path) -> None:
    videos = VideoFolders.from_storage(str(root / "first"), place="here")
    with pytest.raises(ConfigError, match="needs its frames per second"):
        DatasetCheck(videos, folder=tmp_path).run("tvqa", {"val": read_annotations(root / "val.json")})


def test_the_list_is_readable_and_says_how_much_it_leaves_out(root: Path, tmp_path: Path) -> None:
    text = check(root, tmp_path, splits=("val",)).as_text()
    assert text.startswith(
        "nextqa val: 10 questions about 6 videos, usable: 6 (60.0 %)\n  missing videos: 1, questions"
    )
    assert "  videos too short for a question's clip: 1, questions lost: 1\n" in text
    assert f"  broken (2): {root / 'first' / 'broken.mp4'}: not a video file" in text
    assert "  and 1 more" not in text
    rows = [row(f"T_{number}", f"none{number}") for number in range(5)]
    write_annotations(root / "many.json", rows)
    assert "  and 3 more" in check(root, tmp_path, splits=("many",)).as_text(most=2)


def test_names_and_files_that_are_no_videos_are_problems_and_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    write_video(tmp_path / "é ü.mp4", num_frames=5)
    (tmp_path / "link.mp4").symlink_to("é ü.mp4")
    names = ["empty", "loop", "folder", "pipe", "x" * 300, "é ü", "link"]
    write_annotations(tmp_path / "val.json", [row(f"T_{number}", name) for number, name in enumerate(names)])
    videos = VideoFolders.from_storage(str(tmp_path), place="here")
    check = DatasetCheck(videos, folder=tmp_path / "out", fps=3.0)
    report = check.run("custom", {"val": read_annotations(tmp_path / "val.json")})
    assert {problem.video: problem.kind for problem in report.problems} == {
        "empty": "unreadable", "folder": "unreadable", "pipe": "unreadable", "loop": "missing", "x" * 300: "missing",
    }  # fmt: skip


def test_five_thousand_questions_without_videos_are_lost(root: Path, tmp_path: Path) -> None:
    write_annotations(root / "large.json", [row(f"T_{number}", f"v{number // 9}") for number in range(5000)])
    report = check(root, tmp_path, splits=("large",))
    assert report.num_lost == 5000
    assert len(report.problems) == 556


@pytest.mark.slow
def test_five_thousand_questions_without_videos_take_seconds(root: Path, tmp_path: Path) -> None:
    with cpu_seconds_at_most(10):
        test_five_thousand_questions_without_videos_are_lost(root, tmp_path)


def test_the_configuration_says_where_the_dataset_is(root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"datasets: {{nextqa: {{build_info: {{videos: {{storage: {root / 'first'}}}}}}}}}\n")
    option = f"datasets.nextqa.build_info.annotations.val.storage={root / 'val.json'}"
    config = load_dataset_config("nextqa", recipe=recipe, options=[option])
    assert storage_of("nextqa", config).roots == [root / "first"]
    assert {name: len(split) for name, split in read_splits("nextqa", config).items()} == {"val": 10}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["datasets.star.prompt=x"], "--options: datasets.star is not checked; known: nextqa"),
        (["run.seed=1"], "--options: only datasets.nextqa. can be set here, not 'run'"),
        (["datasets.nextqa.build_inf.videos.storage=x"], "unknown key 'build_inf'; did you mean 'build_info'?"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_dataset_config("nextqa", options=options)
    assert message in str(error.value)


def test_what_is_not_there_is_named_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVILA_DATA", str(tmp_path))
    config = load_dataset_config("star")
    with pytest.raises(AnnotationError, match="make them with: sevila prepare star --raw DIR"):
        read_splits("star", config)
    with pytest.raises(ConfigError, match=r"datasets\.star has no split 'vall'; did you mean 'val'"):
        read_splits("star", config, splits=["vall"])
    with pytest.raises(ConfigError, match=r"there is no folder .*star/videos; name the folder of"):
        storage_of("star", config)


def test_a_dataset_that_a_recipe_defines_is_checked(root: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "run: {imports: []}\ndatasets: {mine: {type: nextqa, build_info: {videos: {storage: nowhere}}}}\n"
    )
    config = load_dataset_config("mine", recipe=recipe, options=[f"datasets.mine.build_info.videos.storage={root}"])
    assert storage_of("mine", config).roots == [root]
    recipe.write_text(
        "datasets: {mine: {prompt: moment, vis_processor: {train: {name: blip2_video_train}, "
        "eval: {name: blip_video_eval}}, "
        f"build_info: {{videos: {{storage: {root}}}, annotations: {{val: {{storage: {root / 'val.json'}}}}}}}}}}}\n"
    )
    assert len(read_splits("mine", load_dataset_config("mine", recipe=recipe))["val"]) == 10


def test_annotations_that_a_recipe_s_own_dataset_lacks_are_named_in_the_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("datasets: {mine: {type: nextqa, build_info: {annotations: {val: {storage: nowhere.json}}}}}\n")
    config = load_dataset_config("mine", recipe=recipe)
    with pytest.raises(AnnotationError, match=r"; name them in datasets\.mine\.build_info\.annotations$"):
        read_splits("mine", config)
