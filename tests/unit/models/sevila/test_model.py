import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lavis.common.errors import ConfigError, QuestionError
from lavis.common.types import Question, Unread
from lavis.models.frames import FrameSource
from lavis.models.sevila.loading import set_precision
from lavis.models.sevila.model import JointPacking, PerFramePacking, SeViLA, SeViLAAnswerer, SeViLALocalizer
from lavis.processors.prompts import MultipleChoicePrompt
from lavis.processors.transforms import EvalTransform
from tests.precision import assert_near_float64
from tests.unit.models.tiny import (
    CONFIG,
    QUERIES,
    WIDTH,
    encoded,
    frames_of,
    known_frames,
    random_clip,
    random_pixels,
    random_tokens,
    recorded,
)

PROMPTS = ["Question: what is shown? Option A: red Option B: green", "Is it red?", "yes"]


@pytest.fixture
def no_generation(monkeypatch: pytest.MonkeyPatch, tiny_model: SeViLA) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("generate was called")

    monkeypatch.setattr(tiny_model.language.model, "generate", refuse, raising=False)


@torch.no_grad()
def test_frames_become_tokens_of_both_roles(tiny_model: SeViLA) -> None:
    tokens = encoded(tiny_model, random_pixels(5))
    assert tokens["localizer"].shape == tokens["answerer"].shape == (5, QUERIES, WIDTH)
    assert not torch.allclose(tokens["localizer"], tokens["answerer"])


@torch.no_grad()
def test_tokens_of_a_frame_do_not_depend_on_the_other_frames(tiny_model: SeViLA, exact_model: SeViLA) -> None:
    pixels = random_pixels(5)
    alone = encoded(exact_model, pixels[3:4])
    for model in (tiny_model, exact_model):
        together = encoded(model, pixels)
        assert_near_float64(together["localizer"][3], alone["localizer"][0])
        assert_near_float64(together["answerer"][3], alone["answerer"][0])


def test_chunks_of_frames_give_the_tokens_of_all_frames_in_order(tiny_model: SeViLA, exact_model: SeViLA) -> None:
    pixels = random_pixels(5)
    expected, chunked = encoded(exact_model, pixels), frames_of(pixels, tiny_model, chunk=2)
    for encoder in tiny_model.encoders:
        assert_near_float64(chunked.encoded(encoder), expected[encoder.name])


def test_pictures_become_what_their_prepared_pixels_become(exact_model: SeViLA) -> None:
    clip = random_clip(2)
    prepared = EvalTransform(mean=exact_model.config.image_mean, std=exact_model.config.image_std)(clip)
    assert_near_float64(exact_model.feature_encoder.run(clip), exact_model.features(prepared))


def test_tokens_of_watched_frames_can_be_trained_on(tiny_model: SeViLA) -> None:
    with torch.inference_mode():
        tokens = encoded(tiny_model, random_pixels(2))
    head = nn.Linear(WIDTH, 1)
    head(tokens["answerer"]).sum().backward()
    assert head.weight.grad is not None
    assert not tokens["answerer"].requires_grad


@torch.no_grad()
def test_frame_scores_are_the_logits_of_yes_and_no_at_the_first_step(tiny_model: SeViLA, exact_model: SeViLA) -> None:
    tokens, language = random_tokens(2, 3), exact_model.language
    text = language.tokenize(PROMPTS[:2], end_of_text=True)
    logits = language.first_step(PerFramePacking().inputs(language, tokens, text)).view(2, 3, -1)
    for model in (tiny_model, exact_model):
        scores = model.score_frames(tokens, PROMPTS[:2])
        assert_near_float64(scores.yes, logits[:, :, 482])
        assert_near_float64(scores.no, logits[:, :, 483])


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 4, 21, 1000])
@pytest.mark.usefixtures("no_generation")
def test_frame_scores_do_not_depend_on_the_batch_size(tiny_model: SeViLA, exact_model: SeViLA, batch_size: int) -> None:
    tokens = random_tokens(3, 7)
    expected = exact_model.score_frames(tokens, PROMPTS)
    decoder, encoder = tiny_model.language.model.decoder, tiny_model.language.model.encoder
    with recorded(decoder) as decoded, recorded(encoder) as encoded:
        found = tiny_model.score_frames(tokens, PROMPTS, batch_size=batch_size)
    assert_near_float64(found.yes, expected.yes)
    assert_near_float64(found.no, expected.no)
    assert len(decoded) == len(encoded) == math.ceil(21 / batch_size)
    # One token for each of 21 frames: no step is decoded that is not read.
    assert sum(call["input_ids"].numel() for call in decoded) == 21
    assert max(call["input_ids"].shape[0] for call in decoded) <= batch_size


@torch.no_grad()
def test_one_video_is_scored_for_many_questions_without_copying_its_tokens(
    tiny_model: SeViLA, exact_model: SeViLA
) -> None:
    tokens = random_tokens(7)
    scores = tiny_model.score_frames(tokens.expand(3, -1, -1, -1), PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        alone = exact_model.score_frames(tokens[None], [prompt])
        assert_near_float64(scores.yes[row], alone.yes[0])
        assert_near_float64(scores.no[row], alone.no[0])


@torch.no_grad()
@pytest.mark.parametrize("num_options", [2, 5, 26])
@pytest.mark.usefixtures("no_generation")
def test_option_scores_are_the_letters_logits_at_the_second_step(tiny_model: SeViLA, num_options: int) -> None:
    tokens = random_tokens(3, 4)
    with recorded(tiny_model.language.model.decoder) as decoded:
        answer = tiny_model.answer(tokens, PROMPTS, num_options=num_options, packing=JointPacking())
    assert [tuple(call["input_ids"].shape) for call in decoded] == [(3, 1), (3, 1)]
    text = tiny_model.language.tokenize(PROMPTS, end_of_text=True)
    steps = tiny_model.language.two_steps(JointPacking().inputs(tiny_model.language, tokens, text))
    torch.testing.assert_close(answer.logits, steps.second_logits[:, 380 : 380 + num_options], rtol=0, atol=0)
    assert answer.first_token.tolist() == steps.first_token.tolist()


@torch.no_grad()
@pytest.mark.parametrize("num_options", [0, 1, 27])
def test_too_few_or_too_many_options_are_refused(tiny_model: SeViLA, num_options: int) -> None:
    with pytest.raises(QuestionError, match=f"^{num_options} options? given; give 2 to 26$"):
        tiny_model.answer(random_tokens(1, 1), ["yes"], num_options=num_options, packing=JointPacking())


@torch.no_grad()
@pytest.mark.parametrize("num_frames", range(1, 13))
def test_any_number_of_frames_is_read(tiny_model: SeViLA, exact_model: SeViLA, num_frames: int) -> None:
    tokens = random_tokens(2, num_frames)
    joint = tiny_model.answer(tokens, PROMPTS[:2], num_options=3, packing=JointPacking())
    alone = tiny_model.answer(tokens, PROMPTS[:2], num_options=3, packing=PerFramePacking())
    assert joint.logits.shape == (2, 3)
    assert alone.logits.shape == (2 * num_frames, 3)
    each = exact_model.answer(tokens[1:, -1:], PROMPTS[1:2], num_options=3, packing=PerFramePacking())
    assert_near_float64(alone.logits[-1], each.logits[0])


@torch.no_grad()
def test_the_order_of_frames_matters_when_they_are_read_together(tiny_model: SeViLA) -> None:
    tokens = random_tokens(1, 2)
    forth = tiny_model.answer(tokens, ["yes"], num_options=2, packing=JointPacking())
    back = tiny_model.answer(tokens.flip(1), ["yes"], num_options=2, packing=JointPacking())
    assert not torch.allclose(forth.logits, back.logits, atol=1e-3)


def test_letters_are_compared_after_the_word_option(tiny_model: SeViLA, exact_model: SeViLA) -> None:
    tokens, language = random_tokens(2, 3), exact_model.language
    logits = tiny_model.choose_after_option(tokens, PROMPTS[:2], num_options=3, packing=PerFramePacking())
    text = language.tokenize(PROMPTS[:2], end_of_text=True)
    labels = torch.tensor([[446, 380]]).expand(6, -1)  # "Option A"
    expected = language.teacher_forced(PerFramePacking().inputs(language, tokens, text), labels)[:, 1, 380:383]
    assert_near_float64(logits, expected.detach())
    assert not logits.requires_grad


def test_text_loss_is_the_mean_over_all_target_tokens(tiny_model: SeViLA, exact_model: SeViLA) -> None:
    found = exact_model.text_loss(random_tokens(2, 3), PROMPTS[:2], ["Option B", "yes"], packing=JointPacking())
    assert found.labels.tolist() == [[446, 381, 1], [482, 1, -100]]
    log_probs = found.logits.log_softmax(-1)
    picked = [
        log_probs[row, at, token] for row, at, token in [(0, 0, 446), (0, 1, 381), (0, 2, 1), (1, 0, 482), (1, 1, 1)]
    ]
    expected = -torch.stack(picked).mean().detach()
    assert_near_float64(found.loss.detach(), expected)
    rounded = tiny_model.text_loss(random_tokens(2, 3), PROMPTS[:2], ["Option B", "yes"], packing=JointPacking())
    assert_near_float64(rounded.loss.detach(), expected)


@pytest.mark.parametrize("roles", [(), ("localizer",), ("answerer",), ("localizer", "answerer")])
def test_only_the_chosen_roles_train_whatever_the_mode(own_model: SeViLA, roles: tuple[str, ...]) -> None:
    own_model.set_trainable(roles)
    for mode in (True, False, True):
        own_model.train(mode)
        for name, part in own_model.named_children():
            trains = name in roles
            assert {module.training for module in part.modules()} == {trains and mode}
            assert {parameter.requires_grad for parameter in part.parameters()} == {trains}
    trainable = {name.partition(".")[0] for name, _ in own_model.trainable_parameters()}
    assert trainable == set(roles)


def test_a_mistaken_role_is_refused_and_nothing_changes(own_model: SeViLA) -> None:
    own_model.set_trainable(("answerer",))
    with pytest.raises(ConfigError, match=r"^cannot train 'localiser'; did you mean 'localizer'\? known: answerer, "):
        own_model.set_trainable(("localiser",))
    assert {name.partition(".")[0] for name, _ in own_model.trainable_parameters()} == {"answerer"}


@pytest.mark.parametrize("role", ["localizer", "answerer"])
def test_only_the_trained_prompter_gets_gradients(own_model: SeViLA, role: str) -> None:
    own_model.set_trainable((role,))
    own_model.train()
    tokens = getattr(own_model, role)(own_model.features(random_pixels(2)))
    own_model.text_loss(tokens[None], ["Is it red?"], ["yes"], packing=JointPacking()).loss.backward()
    parts = {name.partition(".")[0] for name, value in own_model.named_parameters() if value.grad is not None}
    assert parts == {role}
    missing = [name for name, value in own_model.trainable_parameters() if value.grad is None]
    assert missing == []


def test_frozen_parts_are_without_dropout_while_the_others_train(own_model: SeViLA) -> None:
    own_model.set_trainable(("localizer",))
    own_model.train()
    pixels = random_pixels(3)
    first, second = encoded(own_model, pixels), encoded(own_model, pixels)
    torch.testing.assert_close(first["answerer"], second["answerer"], rtol=0, atol=0)
    assert not torch.allclose(first["localizer"], second["localizer"])
    scores = [own_model.score_frames(random_tokens(1, 4), ["yes"]).yes for _ in range(2)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=0)


def by_part(model: SeViLA) -> dict[str, set[torch.dtype]]:
    return {name: {value.dtype for value in part.parameters()} for name, part in model.named_children()}


@pytest.mark.parametrize(
    ("dtype", "vision", "prompters", "language"),
    [
        ("fp32", torch.float32, torch.float32, torch.float32),
        ("bf16", torch.bfloat16, torch.bfloat16, torch.bfloat16),
        ("fp16", torch.float16, torch.float32, torch.bfloat16),
    ],
)
def test_precision_of_each_part(
    own_model: SeViLA, dtype: str, vision: torch.dtype, prompters: torch.dtype, language: torch.dtype
) -> None:
    set_precision(own_model, dtype)
    expected = {"vision": vision, "localizer": prompters, "answerer": prompters, "language": language}
    assert by_part(own_model) == {name: {kind} for name, kind in expected.items()}


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_lower_precision_gives_nearly_the_same_scores(own_model: SeViLA, exact_model: SeViLA, dtype: str) -> None:
    set_precision(own_model, dtype)
    pixels = random_pixels(4)

    def scores(model: SeViLA) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = encoded(model, pixels)
        answer = model.answer(tokens["answerer"][None], ["Is it red?"], num_options=3, packing=JointPacking())
        return model.score_frames(tokens["localizer"][None], ["Is it red?"]).yes, answer.logits

    for ours, exact in zip(scores(own_model), scores(exact_model), strict=True):
        assert ours.dtype == torch.bfloat16  # the language model's, where the vision tower computes in fp16
        assert_near_float64(ours, exact)


@torch.no_grad()
def test_fused_attention_equals_the_plain_one(tiny_model: SeViLA, exact_model: SeViLA) -> None:
    plain = SeViLA.from_config(CONFIG).double().eval()
    parts: list[Any] = [plain.vision.model, plain.localizer.qformer, plain.answerer.qformer, plain.language.model]
    for part in parts:
        part.set_attn_implementation("eager")
    plain.load_state_dict(tiny_model.state_dict())
    pixels = random_pixels(4)
    expected = encoded(plain, pixels)
    frames = expected["answerer"].view(2, 2, QUERIES, WIDTH)
    answer = plain.answer(frames, PROMPTS[:2], num_options=4, packing=JointPacking()).logits
    for model in (tiny_model, exact_model):
        ours = encoded(model, pixels)
        assert_near_float64(ours["localizer"], expected["localizer"])
        assert_near_float64(ours["answerer"], expected["answerer"])
        found = model.answer(frames, PROMPTS[:2], num_options=4, packing=JointPacking()).logits
        assert_near_float64(found, answer)
    implementations = [
        {part.config._attn_implementation for part in model.modules() if hasattr(part, "config") and part is not model}
        for model in (tiny_model, plain)
    ]
    assert implementations == [{"sdpa"}, {"eager"}]


def test_the_two_prompters_have_weights_of_their_own(tiny_model: SeViLA) -> None:
    own = dict(tiny_model.answerer.named_parameters())
    shared = [name for name, value in tiny_model.localizer.named_parameters() if value is own[name]]
    assert shared == []
    assert not torch.equal(tiny_model.localizer.proj.weight, tiny_model.answerer.proj.weight)


@torch.no_grad()
def test_only_the_frames_that_are_asked_for_are_scored(tiny_model: SeViLA, exact_model: SeViLA) -> None:
    tokens = random_tokens(3, 7)
    where = torch.rand(3, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    every = exact_model.score_frames(tokens, PROMPTS)
    with recorded(tiny_model.language.model.decoder) as decoded:
        found = tiny_model.score_frames(tokens, PROMPTS, batch_size=4, where=where)
    assert sum(call["input_ids"].numel() for call in decoded) == where.sum()
    for some, all_of_them in ((found.yes, every.yes), (found.no, every.no)):
        assert torch.equal(some.isnan(), ~where)
        assert_near_float64(some[where], all_of_them[where])


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
