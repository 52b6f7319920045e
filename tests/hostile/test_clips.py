"""Clips cut out of damaged files are whole or absent, and never a defect."""

import random
from pathlib import Path

import pytest

from lavis.common.errors import UserError
from lavis.export.clips import cut_clip
from lavis.video import open_video
from tests.unit.export.test_clips import with_tones
from tests.videos import write_video

_NUM_FILES = 24


@pytest.mark.parametrize(("ending", "sound"), [("mp4", "aac"), ("mkv", "aac"), ("ts", "aac"), ("avi", "mp3")])
def test_clips_of_damaged_files_are_whole_or_absent(ending: str, sound: str, tmp_path: Path) -> None:
    silent = write_video(tmp_path / f"silent.{ending}", num_frames=100, width=32, height=32)
    content = with_tones(silent, codec=sound, name=f"whole.{ending}").read_bytes()
    damaged, clip, rng, made = tmp_path / f"damaged.{ending}", tmp_path / "out" / "clip.mp4", random.Random(1), 0
    for number in range(_NUM_FILES):
        changed = bytearray(content)
        if number % 3:
            for _ in range(rng.randrange(1, 60)):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
        else:
            changed = changed[: rng.randrange(100, len(changed))]
        damaged.write_bytes(changed)
        for copy_early_s in (None, 1.0):
            clip.unlink(missing_ok=True)
            try:
                cut_clip(damaged, clip, start_s=1, end_s=2, copy_early_s=copy_early_s)
            except UserError:
                assert not clip.parent.exists() or list(clip.parent.iterdir()) == []
                continue
            made += 1
            assert list(clip.parent.iterdir()) == [clip]
            with open_video(clip) as opened:
                assert opened.info.num_frames > 0
    assert made > 0
