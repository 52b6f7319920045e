"""`python -m lavis.cli.quickstart`: answer a question about a real video file, with nothing to download.

It makes a short H.264 clip and then runs the `sevila answer` command that it prints.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
from PIL import Image, ImageDraw

from lavis.cli.main import main, reported
from lavis.cli.parser import CommandParser
from lavis.common.files import written_whole

QUESTION = "Which shape moves across the picture after the blue square?"
OPTIONS = ("a red circle", "a green triangle", "a purple ring", "a yellow star")

_WIDTH, _HEIGHT, _FPS = 320, 240, 25
_SCENE_FRAMES = 75
_SMOOTHING = 3  # drawn so much larger, because Pillow's shapes have hard edges
# Background, colour and shape of each scene.
_SCENES = (
    ("#f4e9d8", "#d7263d", "circle"),
    ("#dfe9f5", "#1b4fd6", "square"),
    ("#e6f2e1", "#2a9d3a", "triangle"),
    ("#ece4f5", "#7b3fb8", "ring"),
)


def run(argv: Sequence[str] | None = None) -> int:
    """Make the clip, ask about it, and say where the files are; returns the exit code."""
    return reported(lambda: _run(argv))


def make_clip(path: Path) -> None:
    """Encode the four scenes, three seconds each.

    Raises:
        UserError: the folder cannot be written to.
    """
    with written_whole(path) as unfinished, av.open(str(unfinished), "w") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for picture in _pictures():
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def _run(argv: Sequence[str] | None) -> int:
    parser = CommandParser(prog="python -m lavis.cli.quickstart", description="Answer a question about a made clip.")
    parser.add_argument("--out", type=Path, default=Path("quickstart_output"), help="folder for clip and results")
    out = parser.parse_args(argv).out
    clip = out / "clip.mp4"
    make_clip(clip)
    print(f"Made a clip of four moving shapes: {clip}\n")
    asked = [text for option in OPTIONS for text in ("--option", option)]
    command = ["answer", str(clip), QUESTION, *asked, "--save", str(out / "answer"), "--force"]
    print(f"$ sevila {shlex.join(command)}\n", flush=True)
    code = main(command)
    if code == 0:
        print(f"\nLook at {out / 'answer' / 'scores.png'}, or ask something else about a video of yours.")
    return code


def _pictures() -> Iterator[Image.Image]:
    for background, colour, shape in _SCENES:
        for frame in range(_SCENE_FRAMES):
            large = Image.new("RGB", (_WIDTH * _SMOOTHING, _HEIGHT * _SMOOTHING), background)
            x = (0.2 + 0.6 * frame / (_SCENE_FRAMES - 1)) * large.width
            _draw_shape(ImageDraw.Draw(large), shape, colour, x=x, y=large.height / 2, radius=large.height / 5)
            yield large.resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)


def _draw_shape(draw: ImageDraw.ImageDraw, shape: str, colour: str, *, x: float, y: float, radius: float) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        draw.ellipse(box, fill=colour)
    elif shape == "ring":
        draw.ellipse(box, outline=colour, width=round(radius / 3))
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.regular_polygon((x, y, radius), 3, fill=colour)


if __name__ == "__main__":
    raise SystemExit(run())
