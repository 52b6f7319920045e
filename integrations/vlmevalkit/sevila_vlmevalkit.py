"""Run a model of VLMEvalKit on one of its video datasets, from chosen frames; `--help` tells how.

A process of its own: importing VLMEvalKit changes how others check certificates.
"""

import argparse
import hashlib
import importlib
import ssl
import sys
from pathlib import Path
from typing import Any

from lavis.common import defaults
from lavis.common.errors import EXIT_USER_ERROR, ConfigError, QuestionError, UserError, did_you_mean
from lavis.common.files import file_digest
from lavis.selection.harness import Asked, Fields, FrameChooser, chosen_pictures, frame_chooser

Message = list[dict[str, Any]]


class ChosenPrompts:
    """Stands in for a dataset's `build_prompt`: the dataset's own, with chosen pictures where the video stands.

    Args:
        folder: where pictures are kept, lossless; a folder for each question, since the dataset's own cache has room
            for one choice of frames per video.
    """

    def __init__(self, dataset: Any, chooser: FrameChooser, folder: Path, *, task: str) -> None:
        self._dataset, self._build_prompt = dataset, dataset.build_prompt
        self._chooser, self._folder, self._task = chooser, folder, task
        self.shown: dict[int, int] = {}

    def check(self) -> None:
        """Raise what would be raised for the first question without frames."""
        for number in range(len(self._dataset.data)):
            self._chooser.check(self._asked(number))

    def __call__(self, line: Any, video_llm: bool = False) -> Message:  # noqa: FBT001, FBT002 - as it is called there
        """Return the message of a row, given as its place or as the row; `video_llm` does not matter."""
        del video_llm
        number = line if isinstance(line, int) else int(self._dataset.data.index.get_loc(line.name))
        message = self._build_prompt(self._dataset.data.iloc[number], video_llm=True)
        videos = [part["value"] for part in message if part["type"] == "video"]
        if len(videos) != 1:
            raise QuestionError(f"{self._task} shows {len(videos)} videos in row {number}; one is needed")
        pictures = self._saved(number, Path(videos[0]))
        self.shown[number] = len(pictures)
        return [new for part in message for new in (pictures if part["type"] == "video" else [part])]

    def _asked(self, number: int) -> Asked:
        return Asked(self._dataset.data.iloc[number].to_dict(), self._task, number)

    def _saved(self, number: int, video: Path) -> Message:
        folder = self._folder / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        parts: Message = []
        for place, picture in enumerate(chosen_pictures(video, self._chooser.choose(self._asked(number), video))):
            path = folder / f"{place:03d}.png"
            picture.save(path)
            parts.append({"type": "image", "value": str(path)})
        return parts


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="a video dataset of VLMEvalKit, such as Video-MME_8frame")
    parser.add_argument("--model", required=True, help="a model of VLMEvalKit, such as Qwen2.5-VL-7B-Instruct")
    parser.add_argument("--frames", type=Path, help="a file of chosen frames (sevila.frames/1)")
    parser.add_argument("--task", help="the dataset's name in the file, where it is not that of --data")
    parser.add_argument("--selector", help="in place of a file: a way to choose frames")
    parser.add_argument("--selector-model", help=f"whose Localizer scores frames ({defaults.MODEL})")
    parser.add_argument("--k", type=int, help=f"frames for each question ({defaults.NUM_KEYFRAMES})")
    parser.add_argument("--num-frames", type=int, help=f"frames to choose from ({defaults.NUM_FRAMES})")
    parser.add_argument("--id-field", default=Fields.id, help="the dataset's column of ids; without it, its row counts")
    parser.add_argument("--question-field", default=Fields.question)
    parser.add_argument("--options-field")
    parser.add_argument("--work-dir", type=Path, default=Path("outputs"))
    parser.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE", help="runs first")
    return parser.parse_args()


def run(given: argparse.Namespace) -> Path:
    """Answer every question, evaluate, and return the file of predictions.

    Raises:
        UserError: an unknown name, a question without frames, or a model that words questions itself.
    """
    fields = Fields(given.id_field, given.question_field, given.options_field)
    chosen = {"frames": given.frames, "selector": given.selector, "model": given.selector_model, "k": given.k}
    chooser = frame_chooser(**chosen, num_frames=given.num_frames, task=given.task, fields=fields)
    verified = ssl._create_default_https_context  # noqa: SLF001 - VLMEvalKit replaces it by one that checks nothing
    from vlmeval.config import supported_VLM
    from vlmeval.dataset.video_dataset_config import supported_video_datasets
    from vlmeval.inference_video import infer_data_job_video
    from vlmeval.smp import get_pred_file_path

    ssl._create_default_https_context = verified  # noqa: SLF001
    for module in given.imports:
        importlib.import_module(module)
    for name, known, what in (
        (given.data, supported_video_datasets, "video dataset"),
        (given.model, supported_VLM, "model"),
    ):
        if name not in known:
            raise ConfigError(f"VLMEvalKit has no {what} {name!r}; {did_you_mean(name, known)}")
    dataset = supported_video_datasets[given.data]()
    # Answers that are there are not asked for again, so each choice of frames has a folder of its own.
    choice = repr(sorted((key, str(value)) for key, value in vars(given).items() if key not in ("work_dir", "imports")))
    digest = hashlib.sha256((choice + (file_digest(given.frames) if given.frames else "")).encode()).hexdigest()[:12]
    folder = given.work_dir / f"{given.model}_{given.data}_{digest}"
    prompts = ChosenPrompts(dataset, chooser, folder / "frames", task=given.data)
    prompts.check()
    model = supported_VLM[given.model]()
    if getattr(model, "is_api", False):
        raise ConfigError(
            f"{given.model} is asked from several threads at once, which was not tried; use another model"
        )
    if hasattr(model, "use_custom_prompt") and model.use_custom_prompt(dataset.dataset_name):
        raise ConfigError(f"{given.model} words the questions of {given.data} itself, and would read the whole video")
    dataset.build_prompt = prompts
    infer_data_job_video(model, str(folder), given.model, dataset)
    predictions = Path(get_pred_file_path(str(folder), given.model, dataset.dataset_name))
    count = len(dataset.data)
    shown = f"{len(prompts.shown)} of {count} questions were shown {sum(prompts.shown.values())} frames in this run"
    print(shown)  # noqa: T201
    print(f"predictions: {predictions}\n{dataset.evaluate(str(predictions))}")  # noqa: T201
    return predictions


def main() -> int:
    """Run, and say in one line what was wrong."""
    try:
        run(parse())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
