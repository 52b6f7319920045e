"""The objectives on image-text models, beside the same computed with transformers and peft alone, in float64."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lavis.common.types import Question, Span
from lavis.datasets.dataset import ClipBatch, Sample, collate
from lavis.models.chain import prepared_frames
from lavis.models.frame_cache import FrameCache
from lavis.models.frames import FrameSource
from lavis.models.hf.model import HFModel
from lavis.models.loading import load_model
from lavis.processors.transforms import Clip
from lavis.tasks.objectives import (
    AnswererFinetuning,
    CachedTeacher,
    ClipMemory,
    LocalizerPretraining,
    SelfRefinement,
    _features,
)
from tests.vlm.families import save_tiny
from tests.vlm.training.conftest import save_adapters
from tests.vlm.training.plain import NO, YES, Plain

pytestmark = pytest.mark.vlm

OPTIONS = ("red", "green", "blue")
QUESTIONS = (
    Question("What is it", OPTIONS, id="a", answer=1, windows=(Span(0.4, 0.6),)),
    Question("Which one is it, and where", OPTIONS, id="b", answer=2, windows=(Span(0.0, 0.6),)),
)
NUM_FRAMES, K = 3, 2
# Some norms are computed in float32, whatever the model is in.
TOLERANCE = 1e-6
# LLaVA-OneVision cuts a picture that stands alone into tiles when it is asked as documented.
FAMILIES = ("smolvlm", "qwen3_vl", "gemma3")


def batch_of(model: HFModel) -> ClipBatch:
    """Two clips of noise, a frame every half second, with their questions."""
    side = model.image_size
    colours = np.random.default_rng(0).integers(0, 256, (len(QUESTIONS), NUM_FRAMES, 3, side, side), np.uint8)
    times_s = torch.arange(NUM_FRAMES, dtype=torch.float64).expand(len(QUESTIONS), -1) / 2
    frame_idx = torch.arange(NUM_FRAMES).expand(len(QUESTIONS), -1)
    return ClipBatch(torch.from_numpy(colours).float() / 255, times_s, frame_idx, QUESTIONS)


def batch_of_pictures() -> ClipBatch:
    """The same of pictures as data loaders read them: one clip is wider than high, the other higher than wide."""
    samples = []
    for number, (question, size) in enumerate(zip(QUESTIONS, ((24, 40), (48, 32)), strict=True)):
        colours = np.random.default_rng(number).integers(0, 256, (NUM_FRAMES, 3, *size), np.uint8)
        clip = Clip(torch.from_numpy(colours), np.arange(NUM_FRAMES) / 2, np.arange(NUM_FRAMES))
        samples.append(Sample(question, clip))
    return collate(samples)


@pytest.fixture(params=["squares", "pictures"])
def batch_for(request: pytest.FixtureRequest) -> Callable[[HFModel], ClipBatch]:
    """Makes a batch of prepared squares, or of pictures of several sizes."""
    return batch_of if request.param == "squares" else lambda _: batch_of_pictures()


def pictures_of(batch: ClipBatch) -> list[list[Image.Image]]:
    clips = [batch.clip(row) for row in range(len(batch))]
    if not batch.sizes:
        clips = [(clip * 255).round().to(torch.uint8) for clip in clips]
    return [[Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in clip] for clip in clips]


def loaded(base: Path, adapters: Path, *roles: str, train: bool = False) -> HFModel:
    model: HFModel = load_model("hf", str(adapters), device="cpu")
    assert Path(model.config.base) == base
    model.network.double()
    model.set_trainable(roles)
    return model.train(train)


@pytest.fixture(scope="module", params=FAMILIES)
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A family's tiny model, and adapters of it."""
    base = save_tiny(request.param, tmp_path_factory.mktemp("objectives") / request.param)
    return base, save_adapters(base, base.parent / "adapters")


def gradients_of(model: HFModel) -> dict[str, torch.Tensor]:
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def assert_gradients_are(plain: Plain, model: HFModel, role: str) -> None:
    """Gradients are there for one adapter alone, and are those that peft's adapter gets."""
    own = gradients_of(model)
    assert own.keys() == {name for name, _ in model.named_parameters() if f".{role}." in name}
    theirs = {name: value.grad for name, value in plain.network.named_parameters() if value.grad is not None}
    assert len(own) == len(theirs)
    for name, value in own.items():
        wanted = theirs[name.replace("network.", "base_model.model.", 1).replace(f".{role}.", ".default.")]
        assert float((value - wanted).abs().max()) <= 10 * TOLERANCE * float(wanted.abs().max()), name


def test_pretraining_learns_yes_inside_windows(
    places: tuple[Path, Path], batch_for: Callable[[HFModel], ClipBatch]
) -> None:
    model, plain = loaded(*places, "localizer"), Plain(places[0], places[1] / "localizer", trains=True)
    batch = batch_for(model)
    found = LocalizerPretraining(prompt="moment")(model, batch)
    found["loss"].backward()

    wanted = []
    for question, frames in zip(QUESTIONS, pictures_of(batch), strict=True):
        text = f"Description: {question.text}\nDoes this frame show what is described? Answer with yes or no only."
        for number, frame in enumerate(frames):
            is_inside = any(window.start_s <= number / 2 <= window.end_s for window in question.windows or ())
            wanted.append(-plain.log_probability(plain.logits([frame, text]), YES if is_inside else NO))
    loss = torch.stack(wanted).mean()
    loss.backward()
    assert float(found["loss"].detach()) == pytest.approx(float(loss), rel=TOLERANCE)
    assert_gradients_are(plain, model, "localizer")


def asked(question: Question) -> str:
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip("ABC", OPTIONS, strict=True))
    return f"Question: {question.text}\nOptions:\n{lines}"


def said(objective: SelfRefinement, model: HFModel, batch: ClipBatch) -> torch.Tensor:
    """The option [B, T] that the objective's teacher chooses on each frame alone."""
    everywhere = torch.ones(batch.times_s.shape, dtype=torch.bool)
    return objective._ask(model, batch, _features(model, batch), everywhere).view(everywhere.shape)


def helps(question: Question) -> str:
    return f"{asked(question)}\nDoes this frame show what is needed to answer the question? Answer with yes or no only."


def choose(question: Question) -> str:
    return f"{asked(question)}\nAnswer with the letter of the right option only."


def choices(plain: Plain, batch: ClipBatch) -> torch.Tensor:
    """The option [B, T] that a model chooses on each frame alone."""
    rows = []
    for question, frames in zip(QUESTIONS, pictures_of(batch), strict=True):
        for frame in frames:
            logits = plain.logits([frame, choose(question)])
            rows.append(torch.stack([plain.log_probability(logits, letter) for letter in "ABC"]).argmax())
    return torch.stack(rows).view(len(QUESTIONS), -1)


def test_refinement_learns_yes_where_the_answerer_is_right_by_its_own_adapter(
    places: tuple[Path, Path], batch_for: Callable[[HFModel], ClipBatch]
) -> None:
    base, saved = places
    model = loaded(base, saved, "localizer")
    batch, objective = batch_for(model), SelfRefinement(prompt="multiple_choice")
    found = objective(model, batch)
    found["loss"].backward()

    with torch.no_grad():
        teacher = choices(Plain(base, saved / "answerer"), batch)
    plain = Plain(base, saved / "localizer", trains=True)
    assert torch.equal(said(objective, model, batch), teacher)
    wanted = [
        -plain.log_probability(plain.logits([frame, helps(question)]), YES if choice == question.answer else NO)
        for question, frames, row in zip(QUESTIONS, pictures_of(batch), teacher, strict=True)
        for frame, choice in zip(frames, row, strict=True)
    ]
    loss = torch.stack(wanted).mean()
    loss.backward()
    assert float(found["loss"].detach()) == pytest.approx(float(loss), rel=TOLERANCE)
    assert_gradients_are(plain, model, "localizer")


def chosen(plain: Plain, batch: ClipBatch) -> list[list[int]]:
    """The K frames [B, K] of which a model says "yes" with the largest logit, in time order."""
    rows = []
    for question, frames in zip(QUESTIONS, pictures_of(batch), strict=True):
        logits = [plain.logits([frame, helps(question)]) for frame in frames]
        # The logit of the word, not its probability: scores of frames are compared by it.
        scores = torch.stack([plain.log_probability(row, YES) + row.logsumexp(-1) for row in logits])
        rows.append(sorted(scores.topk(K).indices.tolist()))
    return rows


def test_finetuning_learns_the_letter_from_frames_that_the_localizer_chooses_by_its_own_adapter(
    places: tuple[Path, Path], batch_for: Callable[[HFModel], ClipBatch]
) -> None:
    base, saved = places
    model = loaded(base, saved, "answerer")
    batch = batch_for(model)
    found = AnswererFinetuning(prompt="multiple_choice", k=K, selector="localizer")(model, batch)
    found["loss"].backward()

    with torch.no_grad():
        positions = chosen(Plain(base, saved / "localizer"), batch)
    assert [row.tolist() for row in found["positions"]] == positions
    plain, wanted = Plain(base, saved / "answerer", trains=True), []
    for question, frames, row in zip(QUESTIONS, pictures_of(batch), positions, strict=True):
        content = [part for place in row for part in (f"Frame at {place / 2:.1f} s:", frames[place])]
        logits = plain.logits([*content, choose(question)])
        wanted.append(-plain.log_probability(logits, "ABC"[question.answer or 0]))
    loss = torch.stack(wanted).mean()
    loss.backward()
    assert float(found["loss"].detach()) == pytest.approx(float(loss), rel=TOLERANCE)
    assert_gradients_are(plain, model, "answerer")


def test_frames_that_are_read_one_by_one_are_learned_one_by_one(
    places: tuple[Path, Path], batch_for: Callable[[HFModel], ClipBatch]
) -> None:
    base, saved = places
    model, plain = loaded(base, saved, "answerer"), Plain(base, saved / "answerer")
    batch = batch_for(model)
    found = AnswererFinetuning(prompt="multiple_choice", k=NUM_FRAMES, packing="per_frame")(model, batch)
    with torch.no_grad():
        wanted = [
            -plain.log_probability(plain.logits([frame, choose(question)]), "ABC"[question.answer or 0])
            for question, frames in zip(QUESTIONS, pictures_of(batch), strict=True)
            for frame in frames
        ]
    assert float(found["loss"].detach()) == pytest.approx(float(torch.stack(wanted).mean()), rel=TOLERANCE)


def test_only_the_adapter_that_trains_drops_out(base: Path, adapters: Path) -> None:
    model = loaded(base, adapters, "localizer", train=True)
    training = {name for name, part in model.network.named_modules() if part.training}
    dropouts = {name for name, _ in model.network.named_modules() if name.endswith("lora_dropout.localizer")}
    assert dropouts
    assert training == dropouts
    batch = batch_of(model)
    pretraining = LocalizerPretraining(prompt="moment")
    losses = {float(pretraining(model, batch)["loss"]) for _ in range(3)}
    assert len(losses) == 3
    model.eval()
    assert len({float(pretraining(model, batch)["loss"]) for _ in range(3)}) == 1


def test_a_frozen_role_says_in_training_what_it_says_outside_of_it(base: Path, adapters: Path) -> None:
    model = loaded(base, adapters, "localizer", train=True)
    batch = batch_of(model)
    state, refinement = torch.get_rng_state(), SelfRefinement(prompt="multiple_choice")
    in_training = said(refinement, model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    model.set_trainable(())
    assert torch.equal(in_training, said(refinement, model.eval(), batch))


def test_a_cached_teacher_teaches_the_same(base: Path, adapters: Path) -> None:
    from lavis.common.distributed import World

    model = loaded(base, adapters, "localizer")
    batch, teacher = batch_of(model), CachedTeacher(origin="x")
    online = SelfRefinement(prompt="multiple_choice")(model, batch)["loss"]
    cached = SelfRefinement(prompt="multiple_choice", teacher=teacher)
    first = cached(model, batch)
    teacher.share(World())
    second = cached(model, batch)
    assert (float(first["reused"]), float(second["reused"])) == (0.0, 1.0)
    assert float(online) == float(first["loss"]) == float(second["loss"])


def test_a_cache_of_clips_keeps_features_and_no_adapters_prefixes(
    base: Path, adapters: Path, tmp_path: Path, batch_for: Callable[[HFModel], ClipBatch]
) -> None:
    model = loaded(base, adapters, "answerer")
    batch, cache = batch_for(model), FrameCache(tmp_path)
    memory = ClipMemory(cache, origin=model.watching_key())
    settings = {"prompt": "multiple_choice", "k": K, "selector": "localizer"}
    plain = AnswererFinetuning(**settings)(model, batch)
    for _ in range(2):
        found = AnswererFinetuning(**settings, memory=memory)(model, batch)
        assert float(found["loss"].detach()) == pytest.approx(float(plain["loss"]), rel=TOLERANCE)
        assert cache.usage().entries == len(QUESTIONS)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    # Another Localizer: what is kept is read, and other frames are chosen by it than by a prefix that is kept.
    for name, parameter in model.adapters.parameters("localizer"):
        if "lora_B" in name:
            parameter.data = -parameter.data
    other = AnswererFinetuning(**settings, memory=memory)(model, batch)
    alone = AnswererFinetuning(**settings)(model, batch)
    assert [row.tolist() for row in other["positions"]] == [row.tolist() for row in alone["positions"]]
    assert files.keys() == set(tmp_path.iterdir())


def test_recomputed_activations_have_the_adapter_and_the_dropout_of_the_forward_pass(
    base: Path, adapters: Path
) -> None:
    found = []
    for method in ("none", "torch"):
        model = loaded(base, adapters, "localizer", "answerer", train=True)
        model.checkpoint_activations(method=method)
        batch = batch_of(model)
        torch.manual_seed(0)
        # By the adapter that is not active where none is asked for.
        loss = AnswererFinetuning(prompt="multiple_choice", k=NUM_FRAMES)(model, batch)["loss"]
        loss.backward()
        found.append((float(loss), gradients_of(model), torch.get_rng_state()))
    (plain, wanted, state), (recomputed, gradients, after) = found
    assert plain == recomputed
    assert torch.equal(state, after)
    assert gradients.keys() == wanted.keys()
    assert {name.split(".")[-2] for name in gradients} == {"answerer"}
    assert all(torch.equal(value, wanted[name]) for name, value in gradients.items())


def test_every_block_is_recomputed(base: Path, adapters: Path) -> None:
    """Also the first, whose input has no gradient."""
    model = loaded(base, adapters, "localizer")
    layers = model.backbone.parts()["language"].layers
    calls = []
    for number, layer in enumerate(layers):
        layer.self_attn.register_forward_hook(lambda *_, number=number: calls.append(number))
    model.checkpoint_activations(method="torch")
    LocalizerPretraining(prompt="moment")(model, batch_of(model))["loss"].backward()
    assert sorted(calls) == sorted([*range(len(layers))] * 2)


def test_what_is_kept_of_frames_is_not_used_after_the_adapter_has_changed(base: Path, adapters: Path) -> None:
    model = loaded(base, adapters, "localizer")
    batch = batch_of(model)

    def frames() -> FrameSource:
        return prepared_frames(model, batch.pixels[0], batch.frame_idx[0], batch.times_s[0])

    kept, scorer = frames(), model.as_scorer(prompt="multiple_choice")
    before = scorer.score(kept, QUESTIONS[:1]).scores
    optimizer = torch.optim.SGD([value for _, value in model.trainable_parameters()], lr=1.0)
    LocalizerPretraining(prompt="moment")(model, batch)["loss"].backward()
    optimizer.step()
    again, anew = (scorer.score(source, QUESTIONS[:1]).scores for source in (kept, frames()))
    assert np.array_equal(again, anew)
    assert np.abs(again - before).min() > 1e-3
    model.load_partial(adapters / "localizer")
    assert np.array_equal(scorer.score(kept, QUESTIONS[:1]).scores, before)
