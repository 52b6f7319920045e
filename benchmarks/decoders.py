"""Worker processes that decode a film; they start quickly, since they import nothing that decoding does not need."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from benchmarks.film import film
from benchmarks.subprocess_worker import SubprocessWorker
from lavis.video import open_video
from lavis.video.base import uniform_indices


def read_frames(path: Path, reader: str, *, num_frames: int, size: int) -> None:
    """Decode frames spread over a film, as pictures of this size."""
    with open_video(path, reader=reader) as video:
        info = video.info
        video.read(uniform_indices(num_frames, video_frames=info.num_frames, fps=info.fps), size=size)


class Decoder:
    """Decodes frames of a film, as a worker process does that reads ahead."""

    def __init__(self, video_seconds: int, num_frames: int, image_size: int) -> None:
        self._read = partial(read_frames, film(video_seconds), "pyav", num_frames=num_frames, size=image_size)

    def decode(self, times: int) -> None:
        """Read the film's frames so many times."""
        for _ in range(times):
            self._read()


def decoding_rate(video_seconds: int, *, num_frames: int, workers: int, image_size: int = 224, times: int = 4) -> float:
    """Return how many sampled frames a second several worker processes decode together, on the clock."""
    with ExitStack() as stack, ThreadPoolExecutor(workers) as threads:
        made = [
            stack.enter_context(closing(SubprocessWorker(Decoder, video_seconds, num_frames, image_size)))
            for _ in range(workers)
        ]
        for decoder in made:
            decoder.call("decode", 1)
        started = time.perf_counter()
        list(threads.map(lambda decoder: decoder.call("decode", times), made))
        return workers * times * num_frames / (time.perf_counter() - started)
