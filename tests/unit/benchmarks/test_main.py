import json
import tempfile
from pathlib import Path

import av
import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.film import encode_film, film, repeat_film
from benchmarks.long_video import measure_length
from lavis.video import open_video


@pytest.fixture(autouse=True)
def own_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_decode_measures_every_installed_reader(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    options = ["--video-seconds", "1", "--num-frames", "2", "--image-size", "32", "--repeats", "1"]
    assert main(["decode", *options, "--json", str(figures)]) == 0
    assert "pyav" in json.loads(figures.read_text(encoding="utf-8"))["films"]["1 s"]


def test_long_videos_are_watched_at_a_steady_number_of_frames_a_second(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    encode_film(path, num_frames=100, width=96, height=64)
    length = measure_length(path, 1, "tiny", "fp32", "cpu", 1, 0.1)
    assert (length.minutes, length.num_frames) == (1, 6)
    assert length.peak_bytes >= length.idle_bytes > 0
    assert min(length.decode_s, length.watch_s, length.find_s, length.ask_s) > 0


def test_every_benchmark_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in BENCHMARKS)


def test_an_unknown_device_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inference", "--device", "cdua", "--json", str(tmp_path / "figures.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_films_are_made_once(tmp_path: Path) -> None:
    first = film(1)
    made = first.stat().st_mtime_ns
    assert film(1).stat().st_mtime_ns == made
    with open_video(first) as video:
        assert (video.info.num_frames, video.info.width, video.info.height) == (25, 640, 360)


def test_films_are_coded_with_b_frames_and_keyframes_far_apart(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    encode_film(path, num_frames=120, width=640, height=128)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        assert stream.codec_context.name == "h264"
    shots = "".join("K" if packet.is_keyframe else "-" for packet in packets).split("K")
    assert max(map(len, shots)) > 50
    assert any(packet.pts != packet.dts for packet in packets)


def test_a_repeated_film_shows_the_same_pictures_again(tmp_path: Path) -> None:
    once, twice = tmp_path / "once.mp4", tmp_path / "twice.mp4"
    encode_film(once, num_frames=30, width=96, height=64)
    repeat_film(once, twice, times=2)
    with open_video(once) as short, open_video(twice) as long:
        assert long.info.num_frames == 60
        assert long.info.duration_s == pytest.approx(2 * short.info.duration_s)
        assert (long.read([7]).frames == long.read([37]).frames).all()
        assert (short.read([7]).frames == long.read([37]).frames).all()
