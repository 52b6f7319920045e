"""The page's limits: whatever a stranger could ask too much of."""

from dataclasses import dataclass, fields

from lavis.common import defaults
from lavis.common.errors import ConfigError

MEGABYTE = 1000**2


@dataclass(frozen=True)
class Settings:
    """Limits of the page; the defaults suit a laptop and a small public server.

    Attributes:
        max_upload_mb: size of an uploaded file.
        max_stored_mb: size of all uploaded and made files together.
        max_duration_s: length of a video.
        max_pixels: width times height of a video.
        max_frames: frames watched of a video.
        max_keyframes: frames read for a question.
        max_options: answers to choose from.
        max_question_chars: length of a question or a sentence to find.
        max_option_chars: length of an option.
        max_moments: moments shown of a search.
        max_clip_s: length of a cut clip.
        max_job_s: how long one question may take, without waiting.
        max_waiting: jobs that wait for the model.
        max_jobs_per_address: of these, from one network address; one visitor has one job.
        max_watched: watched videos that are kept for further questions.
        max_sessions: open pages and programs whose fields are remembered, 0.1 MB each; who has been silent for longest
            is forgotten first.
        keep_s: how long uploaded files, made files and watched videos are kept.
    """

    max_upload_mb: int = 200
    max_stored_mb: int = 4000
    max_duration_s: int = 1800
    max_pixels: int = 4096 * 2304
    max_frames: int = 128
    max_keyframes: int = 16
    max_options: int = 8
    max_question_chars: int = 500
    max_option_chars: int = 200
    max_moments: int = 8
    max_clip_s: int = 120
    max_job_s: int = 300
    max_waiting: int = 64
    max_jobs_per_address: int = 4
    max_watched: int = 16
    max_sessions: int = 500
    keep_s: int = 3600

    @property
    def num_frames(self) -> int:
        """Frames watched unless a visitor says otherwise."""
        return min(defaults.NUM_FRAMES, self.max_frames)

    @property
    def num_keyframes(self) -> int:
        """Frames read unless a visitor says otherwise; of a shorter video, all there are."""
        return min(defaults.NUM_KEYFRAMES, self.max_keyframes)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value < 1:
                raise ConfigError(f"{item.name} is {value}; it must be 1 or more")
        if self.max_options < 2:
            raise ConfigError(f"max_options is {self.max_options}; a choice needs 2 or more")
        if self.keep_s > 3600:
            raise ConfigError(f"keep_s is {self.keep_s}; visitors are promised that files go after 3600 s")
