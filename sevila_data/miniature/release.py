"""Saving the miniature's best model as the package's embedded one, with its card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lavis.common.files import write_text
from lavis.models.sevila.model import SeViLA
from sevila_data.miniature.world import COLOURS, PLACES, SHAPES

_CARD = """# sevila_tiny

A SeViLA model of {parameters:.1f} million parameters that runs on any laptop, trained on a synthetic world only:
videos of six to eight scenes, each with one coloured shape that moves (or stays) in one of eight places. **It knows
nothing of natural video**: there, its answers and moments mean nothing, whatever their scores.

- It knows the shapes {shapes}; the colours {colours}; the places {places}; and left, right, up, down and still.
- It was asked nine kinds of question, such as "What colour is the star?", "Where is the red thing?", "Which shape is
  in the forest?" and "Which way does the ring move?", with five options; moments by sentences such as "The star moves
  left" or "A red star". Other wordings may fail.
- On {videos} held-out videos, {accuracy:.1f} % of {questions} questions are answered right by it and its likes of
  other seeds (95 % interval {low:.1f} to {high:.1f}); chance is 20 %. All figures are in `benchmarks/MINIATURE.md`.
- Made by `run_scripts/sevila/miniature.sh` (seed {seed} of the stages): stage 0 from nothing, Localizer pre-training,
  self-refinement, Answerer fine-tuning. {remark}
"""


def release(model: SeViLA, folder: Path, figures: Mapping[str, Any]) -> None:
    """Save a model with a card that says what it knows and how well.

    Args:
        figures: what `measure_all` found for this model, with seed and remark.
    """
    found = figures["runs"]["localizer, pre-trained and refined"]["overall"]
    model.save_pretrained(folder)
    card = _CARD.format(
        parameters=sum(parameter.numel() for parameter in model.parameters()) / 1e6,
        shapes=", ".join(SHAPES),
        colours=", ".join(COLOURS),
        places=", ".join(PLACES),
        videos=figures["videos"],
        questions=figures["questions"],
        accuracy=found["percent"],
        low=found["low"],
        high=found["high"],
        seed=figures["seeds"][0],
        remark=figures["remark"],
    )
    write_text(folder / "MODEL_CARD.md", card.rstrip() + "\n")
