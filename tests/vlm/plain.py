"""Image-text models asked as transformers' documentation shows: a whole prompt each time, pictures as PIL images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from lavis.common.types import Question
from lavis.models.hf.model import HFModel
from lavis.processors.chat_prompts import MultipleChoiceChat

PROMPT = MultipleChoiceChat()
Pictures = npt.NDArray[np.uint8]


def inputs(model: HFModel, content: Sequence[str | Image.Image]) -> Any:
    """Return what the processor makes of one user's message."""
    parts = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
        for part in content
    ]
    # InternVL's processor cuts pictures into tiles, whatever its folder says.
    whole = {"crop_to_patches": False} if model.network.config.model_type == "internvl" else {}
    made = model.backbone.processor.apply_chat_template(
        [{"role": "user", "content": parts}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=whole,
    )
    return made.to(model.device, dtype=model.backbone.dtype)


@torch.no_grad()
def next_logits(model: HFModel, content: Sequence[str | Image.Image]) -> torch.Tensor:
    """Return the logits [V] of the token after a message."""
    if model.network.config.model_type == "llava_onevision" and sum(not isinstance(part, str) for part in content) == 1:
        return _of_an_untiled_picture(model, content)
    return model.network(**inputs(model, content), logits_to_keep=1).logits[0, -1]


def _of_an_untiled_picture(model: HFModel, content: Sequence[str | Image.Image]) -> torch.Tensor:
    """Return the logits after a message with one picture, read as LLaVA-OneVision reads each of several pictures.

    Its processor cuts a single picture into tiles, which is many times the tokens.
    """
    place = next(index for index, part in enumerate(content) if not isinstance(part, str))
    twice = inputs(model, [*content[: place + 1], *content[place:]])
    ids, token = twice.pop("input_ids")[0], model.network.config.image_token_index
    pictures = {name: value for name, value in twice.items() if name != "attention_mask"}
    main, _ = model.network.model.get_image_features(**pictures, return_dict=True).pooler_output
    first = int((ids == token).nonzero()[0])
    ids = torch.cat([ids[:first], ids[first + len(main) :]])
    embedded = model.network.get_input_embeddings()(ids)
    embedded[ids == token] = main
    return model.network(inputs_embeds=embedded[None], logits_to_keep=1).logits[0, -1]


def about_frame(model: HFModel, picture: Pictures, text: str) -> torch.Tensor:
    """Return the logits [V] after one frame and a text."""
    return next_logits(model, [Image.fromarray(picture), text])


def labelled(pictures: Pictures, times_s: Sequence[float], text: str) -> list[str | Image.Image]:
    """Return a message of frames, each after its time, and a text."""
    content: list[str | Image.Image] = []
    for picture, time_s in zip(pictures, times_s, strict=True):
        content += [f"Frame at {time_s:.1f} s:", Image.fromarray(picture)]
    return [*content, text]


def _summed(model: HFModel, logits: torch.Tensor, words: Sequence[str]) -> float:
    tokenizer = model.backbone.tokenizer
    found = {tuple(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in words}
    return float(logits[[ids[0] for ids in found if len(ids) == 1]].logsumexp(0))


def yes_and_no(model: HFModel, logits: torch.Tensor) -> tuple[float, float]:
    """Return the logits of both answers, all spellings of one token summed in probability."""
    yes, no = ([f"{space}{case}" for case in cases for space in ("", " ")] for cases in (YES, NO))
    return _summed(model, logits, yes), _summed(model, logits, no)


YES, NO = ("yes", "Yes", "YES"), ("no", "No", "NO")


def letters(model: HFModel, logits: torch.Tensor, count: int) -> list[float]:
    """Return the logits of the first option letters."""
    return [_summed(model, logits, [letter, f" {letter}"]) for letter in "ABCDE"[:count]]


def scores(model: HFModel, pictures: Pictures, questions: Sequence[Question]) -> npt.NDArray[np.float64]:
    """Return the logits of yes and no [2, B, T] of each question about each frame."""
    return np.array(
        [
            [yes_and_no(model, about_frame(model, picture, PROMPT.localizer(question))) for picture in pictures]
            for question in questions
        ]
    ).transpose(2, 0, 1)


def spread_of(model: HFModel, picture: Pictures) -> float:
    """Return the standard deviation of logits, which differences are a share of."""
    return float(about_frame(model, picture, "Why?").std())
