"""Coarse-to-fine localization with the embedded model, from the command line to the files it writes."""

import json
from pathlib import Path

import numpy as np
import pytest

import lavis
from lavis.cli.main import main
from tests.videos import write_video

QUESTION, OPTIONS = "What is shown?", ("a red box", "a blue ball", "a cat")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("coarse") / "clip.mp4", num_frames=60)


def test_scores_are_those_of_scoring_everything_and_missing_where_nothing_was_asked(clip: Path) -> None:
    # In float64, where frames scored in other company differ by nothing but the last digits.
    video = lavis.load_model("sevila", "tiny", device="cpu").double().watch(clip, num_frames=40)
    whole, some = (
        video.ask(QUESTION, OPTIONS, num_keyframes=2, selector=selector).keyframes
        for selector in ("localizer", "coarse_to_fine")
    )
    scored = np.isfinite(some.all_scores)
    assert whole.num_scored == 40
    assert 5 < some.num_scored == scored.sum() < 30
    np.testing.assert_allclose(some.all_scores[scored], whole.all_scores[scored], rtol=0, atol=1e-11)
    assert np.isfinite(some.scores).all()


def test_the_command_says_what_it_saved_and_writes_no_score_that_there_is_not(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["answer", str(clip), QUESTION, "-o", OPTIONS[0], "-o", OPTIONS[1], "--device", "cpu"]
    chosen = ["--num-frames", "40", "--num-keyframes", "2", "--selector", "coarse_to_fine"]
    assert main([*asked, *chosen, "--save", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "answer.json").read_text())
    scores = [row["score"] for row in record["frame_scores"]]
    count = sum(score is not None for score in scores)
    assert (len(scores), 5 < count < 30) == (40, True)
    shown = capsys.readouterr().out
    assert f"{count} of 40 frames scored: {1 - count / 40:.0%} of the calls saved" in shown
    assert (tmp_path / "out" / "scores.png").stat().st_size > 1000
