"""What is measured: models of a size, and the questions they are asked."""

import copy
import dataclasses
from typing import Any

import torch
from transformers.models.t5.modeling_t5 import T5Attention

from benchmarks.variants import SIZES
from lavis.common.types import Question
from lavis.models.sevila.config import read_config
from lavis.models.sevila.loading import set_precision
from lavis.models.sevila.model import SeViLA
from sevila_data.miniature.dataset import question_rows
from sevila_data.miniature.questions import QUESTIONS_PER_VIDEO

_EMBEDDED_TOKENIZER = "sevila_tiny/tokenizer"

# Of the kinds and lengths that NExT-QA has, five options each; fictional.
_ASKED = (
    ("why did the boy put the red kite down", "it was torn,the wind stopped,to drink,it rained,he was called"),
    ("what does the woman do after she opens the door", "waves,sits down,picks up a box,leaves,sings"),
    ("how does the dog cross the small stream", "swims,jumps,over a plank,is carried,walks around"),
    ("where are the two men talking", "kitchen,street,boat,garden,office"),
    ("what did the girl hold before she climbed the ladder", "a rope,a book,a lamp,a bucket,nothing"),
    ("why is the man in the black coat laughing at the end", "a joke,the dog fell,he won,he is tickled,the song"),
    ("how many cups stand on the table", "one,two,three,four,five"),
    ("what does the baby do when the ball rolls away", "crawls after it,cries,claps,looks up,sleeps"),
)


def questions(count: int, *, size: str = "base") -> list[Question]:
    """Return this many questions about one video, such as the model of this size is for.

    The embedded model is asked about its synthetic world: its tokenizer spells every other word in bytes, which would
    make prompts three times as long as anybody's use of it.
    """
    if SIZES[size] == "tiny":
        rows = question_rows("test", -(-count // QUESTIONS_PER_VIDEO), seed=0)[:count]
        return [
            Question(row["question"], tuple(row[f"a{place}"] for place in range(row["num_option"])), id=str(number))
            for number, row in enumerate(rows)
        ]
    asked = [_ASKED[number % len(_ASKED)] for number in range(count)]
    return [
        Question(text=f"{text}?", options=tuple(options.split(",")), id=str(number))
        for number, (text, options) in enumerate(asked)
    ]


def model_of(size: str, *, dtype: str, device: torch.device) -> SeViLA:
    """Return a model of a size of `variants.SIZES`; sizes that are not embedded get random weights.

    Flan-T5's tokenizer would have to be downloaded, so the embedded one is used: prompts differ a
    little in length, and nothing else that matters for speed does.
    """
    config = read_config(SIZES[size])
    if config.language.tokenizer == _EMBEDDED_TOKENIZER:
        return SeViLA.from_pretrained(SIZES[size], dtype=dtype, device=str(device))
    language = dataclasses.replace(config.language, tokenizer=_EMBEDDED_TOKENIZER)
    with device:
        model = SeViLA.untrained(dataclasses.replace(config, language=language))
    set_precision(model, dtype)
    return model


def as_published(model: SeViLA, *, attention: str) -> SeViLA:
    """Return a model of the same weights with transformers' own modules in the state the published ones are in.

    Args:
        attention: transformers' name of the attention kernel of all parts: "eager" (published) or "sdpa".
    """
    plain = copy.deepcopy(model)
    for block in plain.language.model.decoder.block:
        block.layer[1].EncDecAttention.__class__ = T5Attention
    parts: list[Any] = [plain.vision.model, plain.localizer.qformer, plain.answerer.qformer, plain.language.model]
    for part in parts:
        part.set_attn_implementation(attention)
    return plain
