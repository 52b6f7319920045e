"""A dataset and a model for VLMEvalKit, registered at import: `--import tests.harness.vlmevalkit_parts`."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
from vlmeval.config import supported_VLM
from vlmeval.dataset.video_base import VideoBaseDataset
from vlmeval.dataset.video_dataset_config import supported_video_datasets
from vlmeval.vlm.base import BaseModel

from tests.harness.examples import CLIPS, TASK, question_rows


class Clips(VideoBaseDataset):
    """The bundled clips, as Video-MME words them."""

    TYPE = "Video-MCQ"

    @classmethod
    def supported_datasets(cls) -> list[str]:
        return [TASK]

    def prepare_dataset(self, dataset: str) -> dict[str, str]:
        rows = [{**row, "video": Path(row["video"]).stem} for row in question_rows()]
        file = Path(os.environ["LMUData"]) / "clips.tsv"  # noqa: SIM112 - VLMEvalKit's own name
        pd.DataFrame(rows).to_csv(file, sep="\t", index=False)
        return {"root": str(CLIPS), "data_file": str(file)}

    def build_prompt(self, line: Any, video_llm: bool) -> list[dict[str, str]]:
        line = self.data.iloc[line] if isinstance(line, int) else line
        path = f"{self.data_root}/{line['video']}.mp4"
        shown = [path] if video_llm else self.save_video_frames(line["video"])
        kind = "video" if video_llm else "image"
        return [{"type": kind, "value": value} for value in shown] + [{"type": "text", "value": line["question"]}]

    def evaluate(self, eval_file: str, **_judge: Any) -> float:
        data = pd.read_excel(eval_file)
        return float((data["prediction"] == data["answer"]).mean())


class Recording(BaseModel):
    """Writes down what it is shown, and answers "A"."""

    VIDEO_LLM = True

    def generate_inner(self, message: list[dict[str, str]], dataset: str | None = None) -> str:
        with Path("shown.jsonl").open("a") as file:
            file.write(json.dumps(message) + "\n")
        return "A"


supported_video_datasets[TASK] = lambda: Clips(TASK, nframe=2)
supported_VLM["recording"] = Recording
