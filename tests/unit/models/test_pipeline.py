"""The pipeline with a model whose scores and answers are known, on a real video file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lavis.common.errors import ConfigError, QuestionError, VideoError
from lavis.common.types import FrameBatch, Integers, Question, Span, Unread
from lavis.models.base import Answerer, FrameScorer, FrameScores, Mask, Reading
from lavis.models.frame_cache import FrameCache
from lavis.models.frames import FrameEncoder, FrameSource
from lavis.models.pipeline import WatchedVideo, watch
from lavis.processors.prompts import Prompt
from lavis.selection.policies.plain import Uniform
from lavis.video import open_video
from tests.videos import cut, shown_numbers, write_video


class KnownModel:
    """A model that reads a frame's index off its picture; a frame scores by how near it is to the question's number."""

    device = torch.device("cpu")
    caveats = ("known",)

    def __init__(self) -> None:
        self.chunks: list[list[int]] = []
        self.scored: list[list[str]] = []
        self.answered: list[tuple[list[list[int]], list[str], str]] = []

    @property
    def encoders(self) -> tuple[FrameEncoder, ...]:
        return (FrameEncoder("number", self._watch, size=64, shape=()),)

    def _watch(self, clip: FrameBatch) -> torch.Tensor:
        assert shown_numbers(clip.frames) == clip.frame_idx.tolist()
        self.chunks.append(clip.frame_idx.tolist())
        return torch.from_numpy(clip.frame_idx.astype(np.float64))

    def watching_key(self) -> str:
        return "known"

    def as_scorer(self, *, prompt: str | Prompt) -> FrameScorer:
        model = self

        class KnownLocalizer:
            def score(
                self, frames: FrameSource, questions: Sequence[Question], *, where: Mask | None = None
            ) -> FrameScores:
                model.scored.append([f"{prompt}: {question.text}" for question in questions])
                wanted = np.array([[float(question.text)] for question in questions])
                scores = -np.abs(frames.encoded(model.encoders[0]).numpy()[None] - wanted)
                return FrameScores(scores, scores + 5, tuple(lost(question, "localizer") for question in questions))

        return KnownLocalizer()

    def as_answerer(self, *, prompt: str | Prompt, packing: str) -> Answerer:
        model = self

        class KnownAnswerer:
            def answer(self, frames: FrameSource, positions: Integers, questions: Sequence[Question]) -> list[Reading]:
                texts = [question.text for question in questions]
                read = frames.encoded(model.encoders[0], positions).int().view(positions.shape).tolist()
                model.answered.append((read, texts, f"{prompt} {packing}"))
                return [known_reading(question) for question in questions]

        return KnownAnswerer()


def known_reading(question: Question) -> Reading:
    nothing = np.empty(0, np.int64)
    if not question.options:
        return Reading(None, f"open {question.text}", np.empty(0), nothing)
    scores = np.arange(len(question.options), dtype=np.float64)
    return Reading(len(scores) - 1, question.options[-1], scores, nothing, lost(question, "answerer"))


def lost(question: Question, role: str) -> Unread:
    """What ids such as "cut for the localizer" and "unspelt for the answerer" say."""
    return Unread(question.id == f"cut for the {role}", ("{",) if question.id == f"unspelt for the {role}" else ())


@pytest.fixture
def known() -> KnownModel:
    return KnownModel()


@pytest.fixture
def video(known: KnownModel, clip: Path) -> WatchedVideo:
    """Ten of 50 frames: 2, 7, 12, ..., 47."""
    return watch(known, clip, num_frames=10)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 10), (4, [4, 4, 2]), (10, [10]), (64, [10])])
def test_frames_are_watched_once_in_chunks_with_progress(
    known: KnownModel, clip: Path, batch_size: int, sizes: list[int]
) -> None:
    progress: list[tuple[int, int]] = []
    video = watch(
        known, clip, num_frames=10, batch_size=batch_size, progress=lambda seen, total: progress.append((seen, total))
    )
    assert list(map(len, known.chunks)) == sizes
    assert [frame for chunk in known.chunks for frame in chunk] == video.frame_idx.tolist()
    assert video.frame_idx.tolist() == list(range(2, 50, 5))
    np.testing.assert_allclose(video.times_s, video.frame_idx / 25)
    assert progress == [(int(seen), 10) for seen in np.cumsum(sizes)]


def test_keyframes_are_the_best_of_the_watched_frames_in_time_order(video: WatchedVideo, known: KnownModel) -> None:
    answer = video.ask("24", ["a", "b", "c"], num_keyframes=3)
    keyframes = answer.keyframes
    assert keyframes.positions.tolist() == [3, 4, 5]
    assert keyframes.frame_idx.tolist() == [17, 22, 27]
    np.testing.assert_allclose(keyframes.times_s, [0.68, 0.88, 1.08])
    assert keyframes.scores.tolist() == [-7.0, -2.0, -3.0]
    assert keyframes.all_scores.tolist() == [-abs(frame - 24.0) for frame in range(2, 50, 5)]
    assert len(keyframes) == 3
    assert known.answered == [([[17, 22, 27]], ["24"], "multiple_choice joint")]
    assert (answer.index, answer.text, answer.option_scores.tolist()) == (2, "c", [0.0, 1.0, 2.0])
    assert answer.caveats == ("known",)


def test_each_question_is_answered_in_the_order_asked_whatever_its_kind(video: WatchedVideo, known: KnownModel) -> None:
    questions = [Question("7", ("a", "b")), Question("30"), Question("47", ("a", "b", "c")), Question("2")]
    answers = video.ask_all(questions, num_keyframes=1)
    assert [answer.question for answer in answers] == questions
    assert [answer.text for answer in answers] == ["b", "open 30", "c", "open 2"]
    assert [answer.keyframes.frame_idx.tolist() for answer in answers] == [[7], [32], [47], [2]]
    assert known.scored == [[f"multiple_choice: {question.text}" for question in questions]]
    assert known.answered == [
        ([[7], [47]], ["7", "47"], "multiple_choice joint"),
        ([[32], [2]], ["30", "2"], "multiple_choice joint"),
    ]


def test_no_questions_have_no_answers(video: WatchedVideo, known: KnownModel) -> None:
    assert video.ask_all([]) == []
    assert known.scored == known.answered == []


@pytest.mark.parametrize(("num_frames", "wanted", "count"), [(10, None, 4), (3, None, 3), (1, None, 1), (10, 10, 10)])
def test_number_of_keyframes(known: KnownModel, clip: Path, num_frames: int, wanted: int | None, count: int) -> None:
    video = watch(known, clip, num_frames=num_frames)
    for selector in ("localizer", "uniform"):
        assert len(video.ask("7", ["a", "b"], num_keyframes=wanted, selector=selector).keyframes) == count


@pytest.mark.parametrize("wanted", [0, -1, 11])
def test_impossible_numbers_of_keyframes_are_refused(video: WatchedVideo, wanted: int) -> None:
    with pytest.raises(QuestionError, match=f"^cannot choose {wanted} keyframes of 10 frames; ask for 1 to 10$"):
        video.ask("7", ["a", "b"], num_keyframes=wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a"], r"^1 option given; give none, or 2 to 26$"),
        (["a", ""], r"^option B is empty; "),
        (["a", "a"], r"^option B repeats 'a'; give different options$"),
        ("yes", r"^options are the text 'yes'; give a list of texts$"),
    ],
)
def test_unusable_options_are_refused_before_anything_is_computed(
    video: WatchedVideo, known: KnownModel, options: Any, message: str
) -> None:
    with pytest.raises(QuestionError, match=message):
        video.ask("7", options)
    assert known.scored == known.answered == []


@pytest.mark.parametrize("search", [True, False])
def test_an_empty_question_or_query_is_refused(video: WatchedVideo, search: bool) -> None:
    with pytest.raises(QuestionError, match=r"^the question is empty; give some text$"):
        (video.find if search else video.ask)(" ")


@pytest.mark.parametrize(
    ("selector", "frames"),
    [("uniform", [7, 22, 42]), ("windows", [2, 7, 12])],
)
def test_other_selectors_read_other_frames_without_the_localizer(
    video: WatchedVideo, known: KnownModel, selector: str, frames: list[int]
) -> None:
    question = Question("47", ("a", "b"), windows=(Span(0, 0.5),))
    (answer,) = video.ask_all([question], selector=selector, num_keyframes=3, reader="per_frame", prompt="next_event")
    assert answer.keyframes.frame_idx.tolist() == frames
    assert answer.keyframes.scores.tolist() == answer.keyframes.all_scores.tolist() == []
    assert known.scored == []
    assert known.answered == [([frames], ["47"], "next_event per_frame")]


@pytest.mark.parametrize("name", ["localiser", "best"])
def test_unknown_selectors_are_refused(video: WatchedVideo, name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"^unknown frame selector '{name}'; .*known: .*all, .*coarse_to_fine, .*localizer, .*top_k, ",
    ):
        video.ask("7", ["a", "b"], selector=name)


def test_a_lazy_video_sees_only_the_frames_that_are_read(known: KnownModel, clip: Path) -> None:
    video = watch(known, clip, num_frames=10, lazy=True)
    assert known.chunks == []
    assert video.ask("7", ["a", "b"], selector="uniform", num_keyframes=2).keyframes.frame_idx.tolist() == [12, 37]
    assert known.chunks == [[12, 37]]
    video.ask("7", ["a", "b"])
    assert sorted(index for chunk in known.chunks for index in chunk) == video.frame_idx.tolist()


@pytest.mark.parametrize(
    ("selector", "frames"),
    [
        ({"policy": "uniform", "k": 2}, [12, 37]),
        ({"scorer": "localizer", "policy": {"name": "top_k"}, "k": 1}, [7]),
        ({"scorer": {"name": "localizer"}}, [2, 7, 12, 17]),
        (Uniform(), [7, 17, 32, 42]),
    ],
    ids=["policy", "scorer and policy", "scorer", "built"],
)
def test_a_selector_is_made_of_parts_with_arguments(video: WatchedVideo, selector: Any, frames: list[int]) -> None:
    assert video.ask("7", ["a", "b"], selector=selector).keyframes.frame_idx.tolist() == frames


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        (
            {"policy": {"name": "coarse_to_fine", "gpa": 4}},
            r"^frame policy coarse_to_fine: unknown argument 'gpa'; did ",
        ),
        ({"policy": {"name": "coarse_to_fine", "gap": "x"}}, r"^frame policy coarse_to_fine with \{'gap': 'x'\}: "),
        ({"policy": {"gap": 4}}, r"^frame policy is \{'gap': 4\}; give a name, or a mapping of a name and arguments$"),
        ({"polcy": "uniform"}, r"^selector: unknown key 'polcy'; did you mean 'policy'\?"),
        ({"policy": "uniform", "k": 0}, r"^selector: k is 0; give a number of frames, 1 or more, or auto$"),
        ({"scorer": "clip"}, r"^unknown frame scorer 'clip'; "),
        (7, r"^a frame selector is 7; give a name, or a mapping of scorer, policy, k$"),
    ],
    ids=str,
)
def test_what_is_no_selector_is_refused_in_one_line(video: WatchedVideo, selector: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        video.ask("7", ["a", "b"], selector=selector)


def test_moments_are_found_by_margin_in_the_words_of_the_moment_prompt(video: WatchedVideo, known: KnownModel) -> None:
    found = video.find("24")
    assert known.scored == [["moment: 24"]]
    assert found.scores.tolist() == [5 - abs(frame - 24.0) for frame in range(2, 50, 5)]
    # Frames 22 and 27 match; a moment reaches to the middle between a frame and its neighbour.
    assert [(moment.start_s, moment.end_s) for moment in found.moments] == [pytest.approx((19.5 / 25, 29.5 / 25))]
    assert found.moments[0].score == pytest.approx((3 + 2) / 2)
    assert found.query == "24"
    np.testing.assert_allclose(found.times_s, video.times_s)


def test_nothing_is_found_where_no_frame_matches(video: WatchedVideo) -> None:
    assert video.find("1000").moments == ()
    assert len(video.find("1000", threshold=None).moments) == 1


def test_what_must_be_known_of_an_answer_goes_with_it(known: KnownModel, tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "cut.mp4", num_frames=60, muxer_options={"movflags": "faststart"}, width=192, height=128
    )
    cut(path, keep=0.6)
    video = watch(known, path, num_frames=4)
    assert len(video.warnings) == 1
    assert "the file is cut" in video.warnings[0]
    too_long = "the question is too long for the model and lost its end"
    unspelt = "the model cannot spell '{' in the question or its options, and reads an unknown word there"
    ids = ("whole", *(f"{what} for the {role}" for what in ("cut", "unspelt") for role in ("localizer", "answerer")))
    whole, *others = video.ask_all([Question("7", ("a", "b"), id=name) for name in ids])
    assert whole.caveats == ("known", *video.warnings)
    assert [answer.caveats[2:] for answer in others] == [(too_long,)] * 2 + [(unspelt,)] * 2
    assert video.find("7").caveats == ("known", *video.warnings)


def test_a_video_of_one_frame_is_watched_and_asked(known: KnownModel, tmp_path: Path) -> None:
    video = watch(known, write_video(tmp_path / "one.mp4", num_frames=1))
    assert (video.frame_idx.tolist(), video.times_s.tolist()) == ([0], [0.0])
    assert video.ask("0", ["a", "b"]).keyframes.frame_idx.tolist() == [0]
    (moment,) = video.find("0").moments
    assert (moment.start_s, moment.end_s) == (0.0, pytest.approx(1 / 25))


def test_a_clip_is_watched_alone(known: KnownModel, clip: Path) -> None:
    video = watch(known, clip, num_frames=5, clip=Span(1.0, 1.4))
    assert video.frame_idx.tolist() == [26, 28, 30, 32, 34] or video.frame_idx.tolist() == [
        25 + 2 * i for i in range(5)
    ]
    assert 1.0 <= video.times_s[0] <= video.times_s[-1] <= 1.4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 0}, r"^cannot sample 0 frames; ask for at least 1$"),
        ({"batch_size": 0}, r"^cannot watch 0 frames per chunk; give a batch_size of at least 1$"),
        ({"reader": "opencv"}, r"^unknown video reader 'opencv'; .*known: "),
    ],
)
def test_impossible_ways_of_watching_are_refused(
    known: KnownModel, clip: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        watch(known, clip, **options)


def test_a_missing_video_is_refused(known: KnownModel, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"none\.mp4: no such file$"):
        watch(known, tmp_path / "none.mp4")


def test_time_is_kept_for_each_part(video: WatchedVideo) -> None:
    before = (video.timings.localize_s, video.timings.answer_s)
    assert before == (0.0, 0.0)
    assert min(video.timings.decode_s, video.timings.watch_s) > 0
    video.find("7")
    assert video.timings.localize_s > 0
    assert video.timings.answer_s == 0
    video.ask("7", ["a", "b"], selector="uniform")
    assert video.timings.answer_s > 0


def test_pictures_in_memory_are_watched_and_read_again(known: KnownModel, clip: Path) -> None:
    with open_video(clip) as reading:
        pictures = reading.read(np.arange(50)).frames
    video = watch(known, pictures, fps=25, num_frames=10)
    assert video.path is None
    assert video.frame_idx.tolist() == list(range(2, 50, 5))
    assert shown_numbers(video.frames(video.ask("7", ["a", "b"], num_keyframes=1).keyframes.frame_idx).frames) == [7]


def test_pictures_in_memory_are_remembered_by_their_bytes(known: KnownModel, clip: Path, tmp_path: Path) -> None:
    with open_video(clip) as reading:
        pictures = reading.read(np.arange(50)).frames
    cache = FrameCache(tmp_path / "cache")
    for video in (pictures, pictures.copy()):
        assert watch(known, video, fps=25, num_frames=10, cache=cache).num_seen == 10
    assert len(known.chunks) == 1
    watch(known, pictures[::-1], fps=20, num_frames=10, cache=None, lazy=True)
    watch(known, pictures, fps=20, num_frames=10, cache=cache)
    assert len(known.chunks) == 2


@pytest.mark.parametrize("part", [Span(0.5, 1.5), (0.5, 1.5), ["0.5", "0:01.5"], "0.5-1.5", "0:00.5-0:01.5"])
def test_a_clip_is_given_as_people_write_it(known: KnownModel, clip: Path, part: Any) -> None:
    assert watch(known, clip, num_frames=4, clip=part).clip == Span(0.5, 1.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": "8"}, "num_frames is '8'; give a whole number"),
        ({"num_frames": 8.0}, "num_frames is 8.0; give a whole number"),
        ({"num_frames": True}, "num_frames is True; give a whole number"),
        ({"batch_size": "8"}, "batch_size is '8'; give a whole number"),
        ({"sample_fps": "2"}, "sample_fps is '2'; give a number above 0"),
        ({"clip": 3}, "3 is no part of a video; give (start, end) or 'START-END', such as '0:30-0:35'"),
    ],
)
def test_numbers_that_are_none_are_refused_in_one_line(
    known: KnownModel, clip: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        watch(known, clip, **options)
    assert str(caught.value) == message


def test_numbers_of_numpy_are_numbers(known: KnownModel, clip: Path) -> None:
    video = watch(known, clip, num_frames=np.int64(4))
    assert len(video.ask("7", num_keyframes=np.int32(2)).keyframes) == 2


def test_questions_are_given_as_people_write_them(video: WatchedVideo) -> None:
    asked = Question("30", ("a", "b"), id="q")
    answers = video.ask_all(
        ["7", {"text": "30", "options": ["a", "b"], "id": "q"}, {"question": "30", "options": ("a", "b")}, asked]
    )
    assert [one.question for one in answers] == [Question("7"), asked, Question("30", ("a", "b")), asked]
    assert video.ask(asked).question == asked


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ("Where?", "the questions are 'Where?'; give a list of them"),
        ({"text": "Where?"}, "the questions are {'text': 'Where?'}; give a list of them"),
        ([7], "a question is 7; give a text, or a mapping such as "),
        ([{"text": "7", "answers": ["a"]}], "a question has 'answers'; give a mapping such as "),
        ([{"text": "7", "options": "ab"}], "options are the text 'ab'; give a list of texts"),
        ([{"options": ["a", "b"]}], "the question is empty; give some text"),
    ],
)
def test_questions_that_are_none_are_refused_in_one_line(video: WatchedVideo, questions: Any, message: str) -> None:
    with pytest.raises(QuestionError) as caught:
        video.ask_all(questions)
    assert str(caught.value).startswith(message)


def test_a_question_brings_its_own_options(video: WatchedVideo) -> None:
    with pytest.raises(QuestionError, match="the question brings its own options; leave out options="):
        video.ask(Question("7", ("a", "b")), ["c", "d"])
