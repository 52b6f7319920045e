import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
import webdataset
from PIL import Image

from lavis.common.errors import ConfigError, UserError, VideoError
from lavis.datasets.annotations import read_annotations
from lavis.datasets.builder import video_storage
from lavis.datasets.dataset import EpochBatches, Sample, SampleKey, VideoQuestionDataset, build_loader
from lavis.datasets.records import Record
from lavis.datasets.shards import ShardedVideos, Unpacker, VideoFinder, read_index, write_shards
from lavis.datasets.videos import SHARDS_INDEX, VideoFolders
from lavis.processors.transforms import UniformClip
from tests.videos import write_video

NUM_VIDEOS = 7
PROCESSOR = UniformClip(num_frames=2, image_size=32)


def row(qid: str, video: str, **fields: Any) -> dict[str, Any]:
    options = {"num_option": 2, "a0": "x", "a1": "y", "answer": 0}
    return {"video": video, "qid": qid, "question": "Wo?", **options, **fields}


ROWS = [
    *(row(f"T_{number}_{turn}", f"sub/v{number}") for turn in range(3) for number in range(NUM_VIDEOS)),
    row("T_frames", "frames"),
    row("T_clip", "sub/v0", start=0.2, end=0.4),
    row("T_broken", "broken"),
    row("T_gone", "gone"),
]
IDS = sorted(entry["qid"] for entry in ROWS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> VideoFolders:
    root = tmp_path_factory.mktemp("videos")
    (root / "sub").mkdir()
    (root / "frames").mkdir()
    for number in range(NUM_VIDEOS):
        write_video(root / "sub" / f"v{number}.mp4", num_frames=10 + number)
    for number in (2, 10, 1):  # not padded: "10" sorts before "2" as text
        Image.new("RGB", (32, 32), (20 * number, 0, 0)).save(root / "frames" / f"{number}.png")
    (root / "broken.mp4").write_bytes(b"no video")
    return VideoFolders.from_storage(str(root), place="here")


@pytest.fixture(scope="module")
def shards(folders: VideoFolders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video a shard, but for the small ones; written with a limit far below a MiB."""
    folder = tmp_path_factory.mktemp("shards")
    splits = {"val": records(ROWS), "train": records(ROWS[:2])}
    problems = write_shards(folder, splits, folders, max_bytes=4000, skip_missing=True)
    assert [problem.startswith("no video 'gone' in") for problem in problems["val"]] == [True]
    assert problems["train"] == []
    return folder


def dataset(rows: Path, videos: VideoFinder) -> VideoQuestionDataset:
    return VideoQuestionDataset(read_annotations(rows).rows, videos=videos, processor=PROCESSOR, fps=2.0)


def records(rows: list[dict[str, Any]]) -> list[Record]:
    return [Record(fields, Path("val.json"), number) for number, fields in enumerate(rows, start=1)]


def test_shards_are_plain_webdataset_tars(shards: Path) -> None:
    names = sorted(file.name for file in shards.glob("*.tar"))
    assert len(names) >= 5
    assert names[0] == "train-000000.tar"
    with tarfile.open(shards / "val-000000.tar") as shard:
        members = shard.getnames()
        about = json.loads(shard.extractfile(members[0]).read())
    assert members[:2] == ["val-000000-000000.json", "val-000000-000000.mp4"]
    assert (about["video"], about["source"]) == ("sub/v0", None)
    assert [question["qid"] for question in about["questions"]] == ["T_0_0", "T_0_1", "T_0_2", "T_clip"]


def test_the_index_names_every_videos_bytes(shards: Path, folders: VideoFolders) -> None:
    for entry in read_index(shards):
        if entry.ending == ".mp4":
            content = (shards / entry.file).read_bytes()[entry.offset : entry.offset + entry.size]
            assert content == folders.find(entry.video).read_bytes()
    assert sum(entry.questions for entry in read_index(shards) if entry.split == "val") == len(ROWS)


def test_evaluation_from_shards_reads_what_the_files_hold(shards: Path, folders: VideoFolders) -> None:
    stored = dataset(shards / "val.json", video_storage(str(shards), place="here"))
    plain = dataset(shards / "val.json", folders)
    assert len(stored) == len(plain) == len(ROWS)
    for index in range(len(ROWS)):
        ours, theirs = stored[SampleKey(0, index)], plain[SampleKey(0, index)]
        assert ours.question == theirs.question
        assert (
            isinstance(ours, Sample) == isinstance(theirs, Sample) == (theirs.question.id not in {"T_gone", "T_broken"})
        )
        if isinstance(ours, Sample) and isinstance(theirs, Sample):
            assert torch.equal(ours.clip.pixels, theirs.clip.pixels)
            assert ours.clip.times_s.tolist() == theirs.clip.times_s.tolist()


def test_a_video_that_was_missing_says_so(shards: Path) -> None:
    with pytest.raises(VideoError, match=r"'gone' in .*: it was missing when the shards were written"):
        ShardedVideos(shards).find("gone")
    with pytest.raises(VideoError, match="no video 'other' in the shards of"):
        ShardedVideos(shards).find("other")


def test_other_loaders_can_stream_them(shards: Path, folders: VideoFolders) -> None:
    files = sorted(str(file) for file in shards.glob("val-*.tar"))
    samples = list(webdataset.DataPipeline(webdataset.SimpleShardList(files), webdataset.tarfile_to_samples()))
    asked = [question["qid"] for sample in samples for question in json.loads(sample["json"])["questions"]]
    assert sorted(asked) == IDS
    assert samples[0]["mp4"] == folders.find("sub/v0").read_bytes()


@pytest.mark.parametrize(
    ("world_size", "num_workers", "epoch"), [(1, 0, 0), (2, 0, 0), (2, 0, 1), (3, 0, 0), (20, 0, 0), (2, 2, 0)]
)
def test_every_question_comes_once_over_processes_and_workers(
    shards: Path, world_size: int, num_workers: int, epoch: int
) -> None:
    seen: list[str] = []
    for rank in range(world_size):
        batches = EpochBatches(len(ROWS), batch_size=2, rank=rank, world_size=world_size, seed=1)
        batches.seek(epoch=epoch)
        stored = dataset(shards / "val.json", video_storage(str(shards), place="here"))
        for batch in build_loader(stored, batches, num_workers=num_workers):
            seen += [question.id for question in batch.questions]
            seen += [sample.question.id for sample in batch.unreadable]
    assert sorted(seen) == IDS


def test_only_the_last_videos_stay_unpacked(tmp_path: Path) -> None:
    unpacker = Unpacker()
    paths = [unpacker.unpack(b"x", ending=".mp4") for _ in range(5)]
    assert [path.exists() for path in paths] == [False, False, False, True, True]
    del unpacker
    assert not paths[-1].parent.exists()


def test_names_in_a_shard_are_never_paths(tmp_path: Path) -> None:
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as frames:
        for name in ("../../evil.jpg", "/evil.jpg", "a/b.jpg"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            frames.addfile(entry, io.BytesIO(b"x"))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        frames.addfile(link)
    unpacker = Unpacker()
    folder = unpacker.unpack(evil.getvalue(), ending=".frames.tar")
    assert sorted(file.name for file in folder.iterdir()) == ["000000.jpg", "000001.jpg", "000002.jpg"]
    file = unpacker.unpack(b"x", ending=".mp4/../../../evil")
    assert (file.parent, file.suffix) == (folder.parent, ".video")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../val.tar"}, "lies outside of the folder's shards"),
        ({"offset": -1}, "lies outside of the folder's shards"),
        ({"sice": 1}, "unknown key 'sice'; did you mean 'size'?"),
    ],
)
def test_an_index_that_no_writer_made_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    entry = {"video": "x", "source": None, "split": "val", "file": "a.tar", "questions": 1, **change}
    (tmp_path / SHARDS_INDEX).write_text(json.dumps([entry]))
    with pytest.raises(ConfigError) as error:
        read_index(tmp_path)
    assert message in str(error.value)


def test_a_cut_shard_makes_its_videos_unreadable(shards: Path, tmp_path: Path) -> None:
    (tmp_path / SHARDS_INDEX).write_text((shards / SHARDS_INDEX).read_text())
    with pytest.raises(VideoError, match=r"val-000000\.tar: No such file"):
        ShardedVideos(tmp_path).find("sub/v0")
    (tmp_path / "val-000000.tar").write_bytes((shards / "val-000000.tar").read_bytes()[:2000])
    with pytest.raises(VideoError, match=r"val-000000\.tar is cut: it ends within the video 'sub/v0'"):
        ShardedVideos(tmp_path).find("sub/v0")


def test_sharded_videos_can_be_sent_to_other_processes(shards: Path) -> None:
    videos = ShardedVideos(shards)
    path = videos.find("sub/v1")
    other = pickle.loads(pickle.dumps(videos))
    assert other.find("sub/v1").read_bytes() == path.read_bytes()
    assert other.find("sub/v1").parent != path.parent


def test_missing_videos_stop_the_writing_unless_they_are_skipped(folders: VideoFolders, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="1 video of val missing, the first: no video 'gone'"):
        write_shards(tmp_path, {"val": records(ROWS)}, folders)
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    videos = VideoFolders.from_storage(str(tmp_path), place="here")
    with pytest.raises(VideoError, match=r"pipe\.mp4 is not a regular file"):
        write_shards(tmp_path / "out", {"val": records([row("T_0", "pipe")])}, videos)


def test_shards_are_not_written_over_others(shards: Path, folders: VideoFolders) -> None:
    with pytest.raises(UserError, match="holds shards already; name another folder with --out"):
        write_shards(shards, {"val": records(ROWS)}, folders)


def test_a_folder_without_an_index_is_no_folder_of_shards(shards: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no folder of shards: shards\.json is missing"):
        ShardedVideos(shards / "none")
