"""Whatever the bytes of a file are, each parser reads it or refuses it in one line, in bounded time.

The usual run tries a hundred changed files with each parser; `run_scripts/fuzz.sh` goes on for as long as it is told.
The file that is being tried stays in SEVILA_FUZZ_FOLDER, for the case that a parser takes the process down with it.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from lavis.cli.questions import read_questions
from lavis.common.errors import UserError
from lavis.datasets.annotations import read_annotations
from lavis.runners.config import load_train_config
from lavis.runners.evaluation.results import PREDICTIONS, read_predictions
from lavis.selection.exchange.kinds import Named
from lavis.selection.exchange.reading import read_chosen
from lavis.video import open_video
from lavis.video.limits import LimitError, check_boxes, looks_like_mp4

SEEDS = Path(__file__).parent / "seeds"
LASTING_S = float(os.environ.get("SEVILA_FUZZ_S", "0"))
_EXAMPLES = 100  # of one round
_MAX_WORK_S = 10  # CPU time for one file, as promised for videos
_HUGE = (0, 1, 8, 16, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF, 0x1000_0000)
_NUMBERS = [number.to_bytes(4, order) for number in _HUGE for order in ("big", "little")]


@dataclass(frozen=True)
class Target:
    """A parser, and pieces that mean something to it."""

    parse: Callable[[Path], object]
    pieces: Sequence[bytes]
    refusals: type[Exception] = UserError


class Content(bytes):
    """Bytes of a file, which are not printed: the file is there to look at."""

    def __repr__(self) -> str:
        return f"{len(self)} bytes"


def _chosen(path: Path) -> None:
    questions = [Named(0, {"question_id": "p", "video": "a"}), Named(1, {"question_id": "q", "video": "b"})]
    for row in read_chosen(path, questions=questions).rows:
        row.as_row()


def _boxes(path: Path) -> None:
    if looks_like_mp4(path):
        check_boxes(path)


def _frames(path: Path) -> None:
    with open_video(path) as video:
        video.read(np.unique([0, video.info.num_frames - 1]))


_JSON = [
    b"null",
    b"NaN",
    b"-1e999",
    b"1" * 5000,
    b"[" * 2000,
    b'{"',
    b'"\\ud800"',
    b"\xff\xfe",
    b"\0",
    b"\\",
    b"\n",
    b",,",
]
_YAML = [b"&a [*a]", b"*a", b"${", b"${run}", b"!!python/name:os.system", b"{", b"[" * 500, b"- ", b": ", b"\t", b"? "]
_BOXES = [b"moov", b"trak", b"stsz", b"trun", b"cmov", b"mdat", b"stsd", b"free", b"ftyp", b"uuid", b"co64"]
TARGETS = {
    "annotations": Target(read_annotations, _JSON),
    "boxes": Target(_boxes, [*_NUMBERS, *_BOXES], LimitError),
    "configuration": Target(load_train_config, [*_YAML, *_JSON]),
    "frames": Target(_chosen, [*_JSON, b"-1", b"1e18", b'"schema"', b'"sevila.frames/2"', b"[]", b"true"]),
    "headers": Target(
        _frames, [*_NUMBERS, *_BOXES, b"DKIF", b"RIFF", b"\x1aE\xdf\xa3", b"#EXTM3U\n", b"FLV\x01", b"\0\0\1"]
    ),
    "predictions": Target(lambda path: read_predictions(path.parent), _JSON),
    "questions": Target(read_questions, _JSON),
}


def changed(seeds: Sequence[bytes], pieces: Sequence[bytes]) -> st.SearchStrategy[Content]:
    """Files that are made of good ones: parts are overwritten, put in, left out, doubled, or come from another one."""
    piece = st.one_of(st.sampled_from(pieces), st.binary(max_size=8))
    share = st.floats(0, 1)
    edit = st.tuples(st.sampled_from(["write", "insert", "cut", "repeat", "splice", "end"]), share, share, piece)

    def apply(content: bytes, edits: list[tuple[str, float, float, bytes]]) -> Content:
        for kind, where, length, new in edits:
            start = round(where * len(content))
            end = start + round(length * min(64, len(content) - start))
            content = {
                "write": content[:start] + new + content[start + len(new) :],
                "insert": content[:start] + new + content[start:],
                "cut": content[:start] + content[end:],
                "repeat": content[:start] + content[start:end] * 50 + content[end:],
                "splice": content[:start] + seeds[round(length * (len(seeds) - 1))][start:],
                "end": content[:start],
            }[kind]
        return Content(content[:100_000])

    return st.builds(apply, st.sampled_from(seeds), st.lists(edit, min_size=1, max_size=12))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(os.environ.get("SEVILA_FUZZ_FOLDER", tmp_path))


@pytest.mark.parametrize("name", TARGETS)
def test_a_changed_file_is_read_or_refused(name: str, folder: Path, measured: Callable[[str], None]) -> None:
    target = TARGETS[name]
    good = sorted((SEEDS / name).iterdir())
    endings = sorted({path.suffix for path in good})
    seeds = [path.read_bytes() for path in good]
    ends_at, tried, refused = time.monotonic() + LASTING_S, 0, 0
    slowest_s = 0.0

    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(content=changed(seeds, target.pieces), ending=st.sampled_from(endings))
    def one_round(content: Content, ending: str) -> None:
        nonlocal tried, refused, slowest_s
        path = folder / (PREDICTIONS if name == "predictions" else f"{name}{ending}")
        path.write_bytes(content)
        began, tried = time.process_time(), tried + 1
        try:
            target.parse(path)
        except target.refusals as refusal:
            refused += 1
            said = str(refusal)
        else:
            said = ""
        assert "\n" not in said
        assert len(said) < 5000
        took_s = time.process_time() - began
        slowest_s = max(slowest_s, took_s)
        assert took_s < _MAX_WORK_S

    number = 0
    while number == 0 or time.monotonic() < ends_at:
        # The usual run tries the same files each time, a long one ever new ones.
        seed(number if not LASTING_S else time.time_ns())(one_round)()
        number += 1
    measured(f"{name}: {tried} files, {refused} refused, slowest {slowest_s:.2f} s of CPU time")


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_good_and_small(name: str, tmp_path: Path) -> None:
    seeds = sorted((SEEDS / name).iterdir())
    assert seeds != []
    for path in seeds:
        copy = tmp_path / path.name if name != "predictions" else tmp_path / PREDICTIONS
        copy.write_bytes(path.read_bytes())
        TARGETS[name].parse(copy)
        assert len(path.read_bytes()) < 10_000
