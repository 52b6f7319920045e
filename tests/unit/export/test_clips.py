"""Clips that are cut out of a video: which frames they show, that they keep their sound, and how they were made."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from lavis.common.errors import VideoError
from lavis.export.clips import Clip, cut_clip
from lavis.video import open_video
from tests.videos import shown_numbers, write_video

RATE = 16_000
TONES_HZ = (400, 800, 1200, 1600)  # one for each second


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 numbered frames in 4 s with a key frame every 12, and a tone for each second."""
    return with_tones(write_video(tmp_path_factory.mktemp("clips") / "numbers.mp4", num_frames=100))


def with_tones(silent: Path, *, codec: str = "aac", name: str = "sound.mp4") -> Path:
    """Copy a video and put a tone of `TONES_HZ` under each of its seconds."""
    target = silent.with_name(name)
    with av.open(str(silent)) as source, av.open(str(target), "w") as output:
        pictures = output.add_stream_from_template(source.streams.video[0])
        sound = output.add_stream(codec, rate=RATE, layout="mono")
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = pictures
                output.mux(packet)
        time_s = np.arange(RATE) / RATE
        for second, tone in enumerate(TONES_HZ):
            samples = (8000 * np.sin(2 * np.pi * tone * time_s)).astype(np.int16)
            for start in range(0, RATE, 1000):
                frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1000], format="s16", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), second * RATE + start
                output.mux(sound.encode(frame))
        output.mux(sound.encode())
    return target


def shown(clip: Path) -> tuple[list[int], list[float]]:
    """The numbers that a clip shows, and when."""
    with open_video(clip) as video:
        batch = video.read(np.arange(video.info.num_frames))
    return shown_numbers(batch.frames), batch.times_s.tolist()


def heard(clip: Path) -> tuple[list[int], float]:
    """The tones of a clip in Hz, each once and in order, and how long it sounds."""
    with av.open(str(clip)) as opened:
        frames = [frame.to_ndarray().mean(axis=0) for frame in opened.decode(audio=0)]
        rate = opened.streams.audio[0].rate
    samples = np.concatenate(frames)
    tones = [nearest_tone(samples[start : start + rate // 10], rate) for start in range(0, len(samples), rate // 10)]
    return list(dict.fromkeys(tones[:-1])), len(samples) / rate


def nearest_tone(samples: npt.NDArray[np.float32], rate: int) -> int:
    spectrum = np.abs(np.fft.rfft(samples))
    return min(TONES_HZ, key=lambda tone: abs(tone - spectrum.argmax() * rate / len(samples)))


def test_a_clip_holds_the_frames_and_the_sound_of_its_time(video: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    clip = cut_clip(video, tmp_path / "cut.mp4", start_s=1.0, end_s=2.0, step=lambda: steps.append(1))
    assert clip == Clip(1.0, 2.0, sound="encoded")
    assert str(clip) == "encoded again"
    numbers, times_s = shown(tmp_path / "cut.mp4")
    assert numbers == list(range(25, 50))
    assert times_s == pytest.approx([index / 25 for index in range(25)], abs=1e-3)
    tones, sounds_s = heard(tmp_path / "cut.mp4")
    assert tones == [800]
    assert sounds_s == pytest.approx(1.0, abs=0.15)  # frames of 64 ms
    assert len(steps) == 7


def test_a_clip_is_copied_from_a_key_frame_that_is_near(video: Path, tmp_path: Path) -> None:
    clip = cut_clip(video, tmp_path / "cut.mp4", start_s=1.0, end_s=2.0, copy_early_s=0.5)
    # Key frames stand at 0, 12, 24, ...; frame 24 is shown at 0.96 s.
    assert (clip.copied, clip.sound, round(clip.start_s, 6), round(clip.early_s, 6)) == (True, "copied", 0.96, 0.04)
    assert str(clip) == "copied, from the key frame 0.04 s before"
    numbers, times_s = shown(tmp_path / "cut.mp4")
    assert numbers[:26] == list(range(24, 50))
    assert len(numbers) <= 28  # B-frames at the end refer to a frame after it
    assert clip.end_s == pytest.approx((24 + len(numbers)) / 25)
    assert times_s[:2] == pytest.approx([0, 0.04], abs=1e-3)
    tones, sounds_s = heard(tmp_path / "cut.mp4")
    assert tones == [800]
    assert sounds_s == pytest.approx(1.04, abs=0.15)


def test_packets_are_copied_bit_for_bit(video: Path, tmp_path: Path) -> None:
    cut_clip(video, tmp_path / "cut.mp4", start_s=0.96, end_s=2.0, copy_early_s=0.0)
    with open_video(video) as source, open_video(tmp_path / "cut.mp4") as clip:
        np.testing.assert_array_equal(clip.read([0, 7]).frames, source.read([24, 31]).frames)


def test_a_clip_is_encoded_where_no_key_frame_is_near(video: Path, tmp_path: Path) -> None:
    clip = cut_clip(video, tmp_path / "cut.mp4", start_s=1.3, end_s=2.0, copy_early_s=0.2)
    assert (clip.copied, clip.start_s, clip.early_s) == (False, 1.3, 0.0)
    assert shown(tmp_path / "cut.mp4")[0] == list(range(32, 50))


@pytest.mark.parametrize(
    ("changes", "name", "copied"),
    [
        ({"codec": "libvpx"}, "other.webm", False),  # VP8 does not go into MP4
        ({"codec": "libvpx-vp9"}, "other.mkv", True),
        ({}, "other.avi", False),
        ({}, "other.ts", False),
        ({"rotation": 90}, "other.mp4", False),
    ],
)
def test_what_cannot_be_copied_is_encoded(changes: dict, name: str, copied: bool, tmp_path: Path) -> None:
    source = write_video(tmp_path / name, num_frames=50, b_frames=0, **changes)
    clip = cut_clip(source, tmp_path / "cut.mp4", start_s=0.5, end_s=1.0, copy_early_s=1.0)
    assert (clip.copied, clip.sound) == (copied, "")
    numbers, _ = shown(tmp_path / "cut.mp4")
    assert numbers[-13:] == list(range(12, 25))
    assert str(clip).endswith(", no sound")


def test_sound_that_mp4_does_not_hold_is_encoded(tmp_path: Path) -> None:
    write_video(tmp_path / "silent.mkv", num_frames=100)
    source = with_tones(tmp_path / "silent.mkv", codec="pcm_s16le", name="sound.mkv")
    clip = cut_clip(source, tmp_path / "cut.mp4", start_s=2.0, end_s=3.0, copy_early_s=0.5)
    assert str(clip) == "copied, from the key frame 0.08 s before, its sound encoded again"
    assert heard(tmp_path / "cut.mp4")[0][-1] == 1200


def test_a_folder_of_frames_gives_a_clip_without_sound(tmp_path: Path) -> None:
    from PIL import Image

    from tests.videos import numbered_picture

    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(9):
        Image.fromarray(numbered_picture(number, width=96, height=64)).save(folder / f"{number}.png")
    clip = cut_clip(folder, tmp_path / "cut.mp4", start_s=1, end_s=2, fps=3, copy_early_s=1)
    assert clip == Clip(1.0, 2.0)
    assert shown(tmp_path / "cut.mp4")[0] == [3, 4, 5]


def test_a_turned_video_is_cut_upright_and_large_ones_get_smaller(tmp_path: Path) -> None:
    write_video(tmp_path / "turned.mp4", num_frames=10, width=96, height=64, rotation=90)
    cut_clip(tmp_path / "turned.mp4", tmp_path / "cut.mp4", start_s=0, end_s=1, max_side=720)
    with av.open(str(tmp_path / "cut.mp4")) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (64, 96)
    write_video(tmp_path / "large.mp4", num_frames=3, width=1920, height=1080)
    cut_clip(tmp_path / "large.mp4", tmp_path / "cut.mp4", start_s=0, end_s=1, max_side=720)
    with av.open(str(tmp_path / "cut.mp4")) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (1280, 720)


def test_nothing_to_cut_is_an_error_and_leaves_no_file(video: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"no frame lies between 9\.0 and 10\.0 s$"):
        cut_clip(video, tmp_path / "cut.mp4", start_s=9, end_s=10)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_is_given_up_leaves_no_file(video: Path, tmp_path: Path) -> None:
    def give_up() -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        cut_clip(video, tmp_path / "cut.mp4", start_s=0, end_s=1, step=give_up)
    assert list(tmp_path.iterdir()) == []
