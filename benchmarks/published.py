"""The published procedure, as the baseline of every speed-up: each question starts from the video file.

What the published code (`SeViLA.generate`, called once per question by its evaluation) does, step by
step, built from our own modules so that both sides have the same weights:

1. decode the video and transform its frames;
2. the vision tower on all frames;
3. the Localizer's Q-Former on all frames, and `generate` for every frame, padded to the longest
   prompt of the batch of questions;
4. the Answerer's Q-Former on the chosen frames, and `generate` on them together.

`generate` returns scores and hidden states of all steps, over the whole vocabulary, as published.
It is held to 3 new tokens, which is what trained weights write ("Option", the letter, the end);
random weights would go on to the limit of 30. Attention is eager, as published. In one thing the
baseline is faster than the published code: transformers' `generate` keeps a decoder cache, which
the published modules lost with newer versions of the library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measure import PartTimings
from lavis.common.types import Floats, Integers, Question
from lavis.models.language.t5 import LanguageInput, T5LanguageModel, Tokens
from lavis.models.pipeline import Timings
from lavis.models.sevila.model import JointPacking, PerFramePacking, SeViLA
from lavis.processors.prompts import MultipleChoicePrompt
from lavis.processors.transforms import EvalTransform
from lavis.selection.policies.plain import top_positions
from lavis.video import open_video
from lavis.video.base import uniform_indices

NEW_TOKENS = 3


@dataclass(frozen=True)
class PublishedAnswer:
    """What one question gave.

    Attributes:
        positions: int64 [K], the frames read, in time order.
        scores: float64 [T], the Localizer's logits of "yes".
        option_scores: float64 [O].
        timings: time spent in each part.
    """

    index: int
    positions: Integers
    scores: Floats
    option_scores: Floats
    timings: Timings


class PublishedProcedure:
    """Answers one question at a time, from the video file.

    Args:
        model: with eager attention where the published figures are wanted.
        batch: the questions of one batch of the evaluation, to whose longest prompt texts are padded.
    """

    def __init__(
        self, model: SeViLA, *, video: Path, batch: Sequence[Question], num_frames: int, num_keyframes: int
    ) -> None:
        self._model = model
        self._video = video
        self._num_frames, self._num_keyframes = num_frames, num_keyframes
        self._transform = EvalTransform(mean=model.config.image_mean, std=model.config.image_std)
        self._prompt = MultipleChoicePrompt()
        self._localizer_batch = [self._prompt.localizer(question) for question in batch]
        self._answerer_batch = [self._prompt.answerer(question) for question in batch]

    @torch.inference_mode()
    def __call__(self, number: int, question: Question) -> PublishedAnswer:
        """Answer question `number` of the batch."""
        timings = PartTimings(self._model.device)
        with timings.measure("decode_s"):
            pixels = self._pixels()
        with timings.measure("watch_s"):
            features = self._model.features(pixels)
        with timings.measure("localize_s"):
            scores = self._localize(features, number)
        positions = top_positions(scores.double().cpu().numpy()[None], self._num_keyframes)[0]
        with timings.measure("answer_s"):
            logits = self._answer(features[torch.from_numpy(positions).to(features.device)], number, question)
        option_scores = logits.double().cpu().numpy()
        return PublishedAnswer(
            int(option_scores.argmax()), positions, scores.double().cpu().numpy(), option_scores, timings
        )

    def _pixels(self) -> torch.Tensor:
        with open_video(self._video) as video:
            info = video.info
            frame_idx = uniform_indices(self._num_frames, video_frames=info.num_frames, fps=info.fps)
            return self._transform(video.read(frame_idx, size=self._model.image_size))

    def _localize(self, features: torch.Tensor, number: int) -> torch.Tensor:
        """Ask of every frame, all in one batch; return the logits of "yes" [T]."""
        language = self._model.language
        text = _row(language.tokenize(self._localizer_batch, end_of_text=True), number)
        inputs = PerFramePacking().inputs(language, self._model.localizer(features)[None], text)
        return generate_as_published(language, inputs)[0][:, language.yes_id]

    def _answer(self, chosen: torch.Tensor, number: int, question: Question) -> torch.Tensor:
        """Read the chosen frames' features; return the logits of the option letters [O]."""
        language = self._model.language
        text = _row(language.tokenize(self._answerer_batch, end_of_text=True), number)
        inputs = JointPacking().inputs(language, self._model.answerer(chosen)[None], text)
        return generate_as_published(language, inputs)[1][0, language.option_ids(len(question.options))]


def _row(tokens: Tokens, number: int) -> Tokens:
    """Take one text with the padding of its batch."""
    return Tokens(tokens.ids[number : number + 1], tokens.mask[number : number + 1], tokens.unread[number : number + 1])


def generate_as_published(language: T5LanguageModel, inputs: LanguageInput) -> tuple[torch.Tensor, ...]:
    """Decode as the published code does; return the logits [N, V] of each step."""
    made = language.model.generate(
        inputs_embeds=inputs.embeds.to(language.dtype),
        attention_mask=inputs.mask,
        do_sample=False,
        num_beams=1,
        decoder_start_token_id=language.model.config.pad_token_id,
        min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS,
        return_dict_in_generate=True,
        output_hidden_states=True,
        output_logits=True,
    )
    return made.logits
