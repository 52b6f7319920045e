"""Results to export, of a model that was never run."""

import numpy as np
import numpy.typing as npt

from lavis.common.types import Answer, Floats, Keyframes, Moment, Moments, Question, VideoInfo

VIDEO = VideoInfo(path="clips/a.mp4", num_frames=100, fps=25.0, duration_s=4.0, width=32, height=24)
TIMES_S = np.array([0.5, 1.5, 2.5, 3.5])
FRAME_IDX = np.array([12, 37, 62, 87])


def make_answer(
    *,
    scores: tuple[float, ...] = (-1.0, 2.0, 0.5, 1.0),
    option_scores: tuple[float, ...] = (0.0, 2.0),
    options: tuple[str, ...] = ("red", "green"),
    caveats: tuple[str, ...] = (),
) -> Answer:
    positions = np.array([1, 3])
    all_scores: Floats = np.array(scores)
    keyframes = Keyframes(
        positions=positions,
        frame_idx=np.array([37, 87]),
        times_s=TIMES_S[positions],
        scores=all_scores[positions] if scores else all_scores,
        all_times_s=TIMES_S,
        all_scores=all_scores,
        all_frame_idx=FRAME_IDX,
    )
    index = 1 if options else None
    text = options[1] if options else "a green thing"
    question = Question("Which colour?", options, id="q7")
    return Answer(question, index, text, np.array(option_scores), keyframes, caveats=caveats)


def make_moments(*found: tuple[float, float, float]) -> Moments:
    scores = np.array([-1.0, 2.0, 0.5, 1.0])
    return Moments(
        "a < b --> c", tuple(Moment(*moment) for moment in found), TIMES_S, scores, ("untrained",), frame_idx=FRAME_IDX
    )


def plain(colour: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    return np.full((24, 32, 3), colour, np.uint8)
