import numpy as np
import pytest
import torch

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.types import Question, Unread
from lavis.models.frames import FrameSource
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.packing import JointPacking, PerFramePacking
from lavis.models.sevila.roles import SeViLAAnswerer, SeViLALocalizer
from lavis.processors.prompts import MultipleChoicePrompt
from tests.precision import assert_near_float64
from tests.unit.models.tiny import known_frames, random_tokens, recorded

CHOICES = [Question("What is shown?", ("red", "green", "blue")), Question("Is it night, or is it day?", ("yes", "no"))]
POSITIONS = np.array([[0, 2, 5], [1, 3, 4]])


TOKENS = {"localizer": random_tokens(6, seed=1), "answerer": random_tokens(6, seed=2)}


def frames(model: SeViLA) -> FrameSource:
    return known_frames(model, **TOKENS)


def test_localizer_gives_logits_of_yes_as_scores_and_their_lead_over_no_as_margins(
    tiny_model: SeViLA, exact_model: SeViLA
) -> None:
    found = tiny_model.as_scorer(prompt="multiple_choice").score(frames(tiny_model), CHOICES)
    prompts = [MultipleChoicePrompt().localizer(question) for question in CHOICES]
    with torch.no_grad():
        logits = exact_model.score_frames(TOKENS["localizer"].expand(2, -1, -1, -1), prompts)
    assert_near_float64(found.scores, logits.yes, dtype=torch.float32)
    assert_near_float64(found.margins, logits.yes - logits.no, dtype=torch.float32)
    assert found.scores.dtype == np.float64
    assert found.unread == (Unread(), Unread())


def test_localizer_scores_do_not_depend_on_the_batch_size(exact_model: SeViLA) -> None:
    small, large = (
        SeViLALocalizer(model=exact_model, prompt=MultipleChoicePrompt(), batch_size=size).score(
            frames(exact_model), CHOICES
        )
        for size in (1, 64)
    )
    assert_near_float64(small.scores, large.scores)


def test_answerer_reads_each_questions_own_frames_and_options(exact_model: SeViLA) -> None:
    readings = exact_model.as_answerer(prompt="multiple_choice", packing="joint").answer(
        frames(exact_model), POSITIONS, CHOICES
    )
    for question, positions, reading in zip(CHOICES, POSITIONS, readings, strict=True):
        prompt = MultipleChoicePrompt().answerer(question)
        with torch.no_grad():
            chosen = TOKENS["answerer"][positions][None]
            logits = exact_model.answer(
                chosen, [prompt], num_options=len(question.options), packing=JointPacking()
            ).logits
        assert_near_float64(reading.option_scores, logits[0])
        assert reading.index == reading.option_scores.argmax()
        assert reading.text == question.options[reading.index]
        assert reading.frame_choices.tolist() == []
        assert reading.unread == Unread()


def test_frames_read_alone_vote(exact_model: SeViLA) -> None:
    readings = exact_model.as_answerer(prompt="multiple_choice", packing="per_frame").answer(
        frames(exact_model), POSITIONS, CHOICES
    )
    for question, positions, reading in zip(CHOICES, POSITIONS, readings, strict=True):
        prompt, count = MultipleChoicePrompt().answerer(question), len(question.options)
        with torch.no_grad():
            chosen = TOKENS["answerer"][positions][None]
            logits = exact_model.answer(chosen, [prompt], num_options=count, packing=PerFramePacking()).logits.numpy()
        assert reading.frame_choices.tolist() == logits.argmax(1).tolist()
        assert_near_float64(reading.option_scores, logits.mean(0))
        votes = np.bincount(reading.frame_choices, minlength=count)
        assert votes[reading.index] == votes.max()


def test_one_frame_read_alone_has_its_own_choice(tiny_model: SeViLA) -> None:
    (reading,) = tiny_model.as_answerer(prompt="multiple_choice", packing="per_frame").answer(
        frames(tiny_model), np.array([[3]]), CHOICES[:1]
    )
    assert reading.frame_choices.tolist() == [reading.index]


@pytest.mark.parametrize("reader", [JointPacking(), PerFramePacking()])
@pytest.mark.parametrize(("batch_size", "calls"), [(1, 5), (3, 5), (6, 3), (64, 1)])
def test_answerer_reads_a_bounded_number_of_frames_at_once(
    exact_model: SeViLA, reader: JointPacking | PerFramePacking, batch_size: int, calls: int
) -> None:
    questions = [Question(f"Is it {'very ' * number}dark?", ("yes", "no", "maybe")) for number in range(5)]
    positions = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [0, 2, 4]])
    whole = SeViLAAnswerer(model=exact_model, prompt=MultipleChoicePrompt(), packing=reader, batch_size=1000)
    parts = SeViLAAnswerer(model=exact_model, prompt=MultipleChoicePrompt(), packing=reader, batch_size=batch_size)
    expected = whole.answer(frames(exact_model), positions, questions)
    with recorded(exact_model.language.model.encoder) as encoded:
        found = parts.answer(frames(exact_model), positions, questions)
    assert len(encoded) == calls
    for ours, theirs in zip(found, expected, strict=True):
        assert_near_float64(ours.option_scores, theirs.option_scores)
        assert ours.frame_choices.tolist() == theirs.frame_choices.tolist()


def test_open_answers_are_texts_without_scores(tiny_model: SeViLA) -> None:
    asked = [Question("What is shown?"), Question("Why?")]
    together = tiny_model.as_answerer(prompt="multiple_choice", packing="joint").answer(
        frames(tiny_model), POSITIONS, asked
    )
    for row, reading in enumerate(together):
        (alone,) = tiny_model.as_answerer(prompt="multiple_choice", packing="joint").answer(
            frames(tiny_model), POSITIONS[row : row + 1], asked[row : row + 1]
        )
        assert (reading.index, reading.text) == (None, alone.text)
        assert reading.option_scores.tolist() == reading.frame_choices.tolist() == []


def test_open_questions_are_refused_for_frames_read_alone(tiny_model: SeViLA) -> None:
    answerer = tiny_model.as_answerer(prompt="multiple_choice", packing="per_frame")
    with pytest.raises(QuestionError, match=r"^an open answer needs frames read together; use the reader 'joint' or "):
        answerer.answer(frames(tiny_model), POSITIONS, [Question("Why?"), Question("Who?")])


@pytest.mark.parametrize(
    ("prompt", "reader", "message"),
    [
        ("multiple-choice", "joint", r"^unknown prompt 'multiple-choice'; did you mean 'multiple_choice'\? known: mom"),
        ("moment", "per-frame", r"^unknown frame reader 'per-frame'; did you mean 'per_frame'\? known: joint, per_fra"),
    ],
)
def test_unknown_prompts_and_readers_are_refused(tiny_model: SeViLA, prompt: str, reader: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_model.as_answerer(prompt=prompt, packing=reader)
