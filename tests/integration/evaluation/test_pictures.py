"""A scorer that looks at pictures, whatever the model reads, chooses frames in evaluation and in validation."""

from pathlib import Path

import numpy as np
import pytest

from lavis.cli.main import main
from lavis.common.registry import registry
from lavis.video import open_video
from tests.integration.evaluation.benchmarks import read_lines, recipe
from tests.integration.evaluation.questions import settings

_SIZE = 16
_SCORER = f"""
import numpy as np
from lavis import registry
from lavis.common.types import Unread
from lavis.models.base import FrameScores

@registry.scorers.register("darkness")
class Darkness:
    def score(self, frames, questions, *, where=None):
        light = frames.pictures(np.arange(len(frames)), size={_SIZE}).mean(axis=(1, 2, 3))
        return FrameScores(*[np.tile(-light, (len(questions), 1))] * 2, (Unread(),) * len(questions))
"""


def test_a_scorer_of_pictures_chooses_the_frames_that_are_read(
    data: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "darkness.py").write_text(_SCORER)
    monkeypatch.chdir(tmp_path)
    options = [*settings(data, model=model_folder, output=tmp_path / "out"), "model.selector.scorer=darkness"]
    given = ["evaluate", "--import", "darkness", "--cfg-path", str(recipe("nextqa")), "--options", *options]
    try:
        assert main(given) == 0
    finally:
        registry.scorers._parts.pop("darkness", None)
    rows = [row for row in read_lines(tmp_path / "out" / "predictions.jsonl") if not row["unreadable"]]
    assert rows
    for row in rows:
        (path,) = (data / "videos").glob(f"{row['video']}.*")
        with open_video(path) as video:
            times_s = video.times_s(np.arange(video.info.num_frames))
            frame_idx = np.searchsorted(times_s, np.array(row["frame_times_s"]) - 1e-6)
            light = video.read(frame_idx, size=_SIZE).frames.mean(axis=(1, 2, 3))
        np.testing.assert_allclose(row["frame_scores"], -light)
        best = sorted(np.argsort(light, kind="stable")[: len(row["keyframe_idx"])])
        assert row["keyframe_idx"] == frame_idx[best].tolist()
