"""What a loaded model does with videos: `watch` one and ask it, or ask many."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from lavis.common import defaults
from lavis.common.errors import BrokenModelError, ConfigError, UserError, counted
from lavis.common.times import ClipLike
from lavis.common.types import Answer, Floats, Question
from lavis.models.base import VideoModel
from lavis.models.chain import SelectorSpec
from lavis.models.frame_cache import FrameCache
from lavis.models.frames import Progress, Timings
from lavis.models.pipeline import WatchedVideo, watch
from lavis.processors.prompts import QuestionLike, as_questions
from lavis.video.given import VideoLike, given_video, listed_videos, name_of

VideosProgress: TypeAlias = Callable[[int, int, str], None]


@dataclass(frozen=True)
class VideoAnswers:
    """What came of one of many videos.

    Attributes:
        video: its path, or what else it is called.
        answers: one for each question, in their order; empty where the video could not be asked.
        error: why it could not be asked; None if it was.
    """

    video: str
    answers: tuple[Answer, ...] = ()
    error: UserError | None = None

    def __repr__(self) -> str:
        what = counted(len(self.answers), "answer") if self.error is None else f"error: {self.error}"
        return f"VideoAnswers({self.video!r}, {what})"


class WatchesVideos(Protocol):
    """Gives a model that fills both roles the calls that people make."""

    def watch(
        self: VideoModel,
        video: VideoLike,
        *,
        num_frames: int | None = None,
        sample_fps: float | None = None,
        clip: ClipLike | None = None,
        reader: str = defaults.VIDEO_READER,
        fps: float | None = None,
        times_s: Sequence[float] | Floats | None = None,
        batch_size: int = 16,
        cache: FrameCache | None = None,
        lazy: bool = False,
        progress: Progress | None = None,
        timings: Timings | None = None,
    ) -> WatchedVideo:
        """Watch a video once, to ask it as often as you like.

        All that is taken, and what each option is: `lavis.models.pipeline.watch`.

        Example:
            >>> video = lavis.load_model("sevila", "tiny").watch("clip.mp4", num_frames=32, clip="0:30-0:35")
        """
        return watch(
            self,
            video,
            num_frames=num_frames,
            sample_fps=sample_fps,
            clip=clip,
            reader=reader,
            fps=fps,
            times_s=times_s,
            batch_size=batch_size,
            cache=cache,
            lazy=lazy,
            progress=progress,
            timings=timings,
        )

    def ask_videos(
        self: VideoModel,
        videos: str | Path | Iterable[VideoLike],
        questions: QuestionLike | Sequence[QuestionLike],
        *,
        num_frames: int | None = None,
        sample_fps: float | None = None,
        clip: ClipLike | None = None,
        reader: str = defaults.VIDEO_READER,
        fps: float | None = None,
        batch_size: int = 16,
        cache: FrameCache | None = None,
        num_keyframes: int | str | None = None,
        token_budget: int | None = None,
        selector: SelectorSpec = defaults.SELECTOR,
        frame_reader: str = defaults.FRAME_READER,
        prompt: str = defaults.PROMPT,
        progress: VideosProgress | None = None,
    ) -> list[VideoAnswers]:
        """Ask the same of many videos; one that cannot be asked is told with its reason, and the others are asked.

        Args:
            videos: a list of what `watch` takes, or a folder of videos.
            questions: one question or several, as for `WatchedVideo.ask_all`.
            frame_reader: how keyframes are read; `reader` reads videos.
            progress: called with (videos done, videos in all, name of the next) before each, and at the end.

        The other options are those of `watch` and of `WatchedVideo.ask_all`.

        Raises:
            QuestionError: a question that cannot be asked.
            VideoError: a folder without videos.
            ConfigError: an option that cannot be.

        Example:
            >>> model = lavis.load_model("sevila", "tiny")
            >>> [one.answers[0].text for one in model.ask_videos("clips", "What happens?") if not one.error]
        """
        asked = as_questions([questions] if isinstance(questions, (str, Question, Mapping)) else questions)
        listed, results = listed_videos(videos, fps=fps), list[VideoAnswers]()
        for number, video in enumerate(listed):
            name = name_of(video)
            if progress:
                progress(number, len(listed), name)
            try:
                seen = watch(
                    self,
                    given_video(video, reader=reader, fps=fps),
                    num_frames=num_frames,
                    sample_fps=sample_fps,
                    clip=clip,
                    batch_size=batch_size,
                    cache=cache,
                )
                answers = seen.ask_all(
                    asked,
                    num_keyframes=num_keyframes,
                    token_budget=token_budget,
                    selector=selector,
                    reader=frame_reader,
                    prompt=prompt,
                )
                results.append(VideoAnswers(name, tuple(answers)))
            except (BrokenModelError, ConfigError):  # which every video would meet
                raise
            except UserError as error:
                results.append(VideoAnswers(name, error=error))
        if progress:
            progress(len(listed), len(listed), "")
        return results
