"""Cases that run one published training step: loss, labels, and the gradient of every parameter."""

import torch

from lavis.common.moments import inside_windows
from lavis.datasets.dataset import ClipBatch
from lavis.models.language.t5 import IGNORED
from lavis.models.sevila.model import FramePacking, PerFramePacking, SeViLA
from lavis.models.sevila.names import PUBLISHED
from lavis.processors.prompts import option_target
from lavis.tasks.build import PRETRAINING, PublishedTask, resolve_task, trained_by_published_code
from lavis.tasks.objectives import AnswererFinetuning, LocalizerPretraining, Objective, SelfRefinement
from parity.checks import Checks, Stage, margin
from parity.directory import Case, choice_questions, given_prompt, moment_questions
from parity.inference import check_tokens, check_vision, close_if_stored, packing_of, watch_case

_LOSS, _GRADIENT = Stage("loss"), Stage("gradient")
# What counts as the smallest scale of a gradient, relative to the largest of its case.
_NOISE = 1e-3


def published_task(case: Case) -> PublishedTask:
    """Return what the case trains; its `forward` of an inference task on given frames is the Answerer's."""
    if case["kind"] == "fmr":
        return PRETRAINING
    return resolve_task(case["task"])


def training_batch(case: Case) -> ClipBatch:
    """Return the case's batch; frames of moment cases are one second apart."""
    pixels = case.pixels
    times = torch.arange(pixels.shape[1], dtype=torch.float64).expand(pixels.shape[0], -1)
    questions = (
        moment_questions(case["inputs"]["qa_output"]) if published_task(case) is PRETRAINING else choice_questions(case)
    )
    return ClipBatch(pixels, times, torch.arange(times.shape[1]).expand(times.shape), tuple(questions))


def training_objective(case: Case) -> Objective:
    """Return the objective the published task stands for, asking in the case's own words."""
    task, prompt = published_task(case), given_prompt(case)
    if task is PRETRAINING:
        return LocalizerPretraining(prompt=prompt)
    if task.objective == "self_refinement":
        return SelfRefinement(prompt=prompt)
    # Cases of the voting baseline read all frames, whatever `frame_num` says.
    count = case["frame_num"] if task.training_selector == "localizer" else case["t"]
    return AnswererFinetuning(prompt=prompt, k=count, selector=task.learns_from, packing=task.reader)


def require_published_gradients(model: SeViLA, task: PublishedTask) -> set[str]:
    """Let train what the published code leaves trainable, and return the published names of it."""
    held = {name: parameter for name, parameter in model.named_parameters() if PUBLISHED.theirs(name)}
    trained = trained_by_published_code(task, [PUBLISHED.theirs(name) or "" for name in held])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(PUBLISHED.theirs(name) in trained)
    return trained


def check_training(model: SeViLA, case: Case, checks: Checks) -> None:
    """Run forward and backward without dropout and compare everything that was measured."""
    check_tokens(model, case, checks)
    task, batch = published_task(case), training_batch(case)
    checks.equal("batch and frames", list(batch.pixels.shape[:2]), [case["b"], case["t"]])
    trained = require_published_gradients(model, task)
    checks.equal("requires_grad", sorted(trained), sorted(case["requires_grad"]))
    found = training_objective(case)(model, batch)
    found["loss"].backward()
    checks.close("loss", found["loss"], case["loss"], stage=_LOSS)
    checks.close("loss_train_mode_dropout0", found["loss"], case["loss_train_mode_dropout0"], stage=_LOSS)
    _check_gradients(model, case, checks)
    with torch.no_grad():
        chosen = found.get("positions")
        positions = torch.stack(chosen) if chosen else torch.arange(case["t"]).expand(case["b"], -1)
        _check_forward(model, case, checks, task, batch, positions)


def _check_gradients(model: SeViLA, case: Case, checks: Checks) -> None:
    gradients = {PUBLISHED.theirs(name): parameter.grad for name, parameter in model.named_parameters()}
    measured = case["grads"]
    without = sorted(name for name, figures in measured.items() if figures is None)
    checks.equal("trainable_without_grad", sorted(n for n in measured if gradients[n] is None), without)
    checks.equal("trainable_without_grad, as listed", without, sorted(case["trainable_without_grad"]))
    # Where a gradient is nothing but rounding (keys' biases do not change attention), others give its scale.
    noise = _NOISE * max((figures["norm"] for figures in measured.values() if figures), default=0.0)
    for name, figures in measured.items():
        gradient = gradients[name]
        if figures is not None and gradient is not None:
            scale = [figures["norm"], figures["sum"], noise]
            checks.close(
                f"norm of the gradient of {name}", gradient.norm(), figures["norm"], scale=scale, stage=_GRADIENT
            )
            checks.close(f"sum of the gradient of {name}", gradient.sum(), figures["sum"], scale=scale, stage=_GRADIENT)
            golden = case.tensor(f"grad.{name}")
            if golden is not None:
                scale = [*golden.flatten().tolist(), noise]
                checks.close(f"gradient of {name}, every entry", gradient, golden, scale=scale, stage=_GRADIENT)


def _check_forward(
    model: SeViLA, case: Case, checks: Checks, task: PublishedTask, batch: ClipBatch, positions: torch.Tensor
) -> None:
    """Compare what is made on the way to the loss."""
    watched = watch_case(model, case)
    rows = (torch.arange(case["b"])[:, None] * case["t"] + positions).flatten()
    check_vision(watched, case, checks, read=rows)
    inputs = case["inputs"]
    if task.trains == "localizer":
        tokens, prompts = watched.fold(watched.localizer.tokens), inputs["loc_input"]
        packing: FramePacking = PerFramePacking()
        targets = _yes_no_targets(model, case, checks, task, batch)
    else:
        tokens = watched.fold(watched.answerer.tokens)[torch.arange(case["b"])[:, None], positions]
        prompts, packing = inputs["qa_input"], packing_of(task)
        repeats = positions.shape[1] if packing.reads_alone else 1
        targets = [target for target in inputs["qa_output"] for _ in range(repeats)]
        if "selected_frame_idx" in case:
            _check_selection(model, case, checks, positions)
    text = model.language.tokenize(prompts, end_of_text=True)
    laid_out = packing.inputs(model.language, tokens, text)
    predicted = model.text_loss(tokens, prompts, targets, packing=packing)
    figures = {"t5.inputs_embeds": laid_out.embeds, "t5.logits": predicted.logits}
    discrete = {
        "t5.attention_mask": laid_out.mask,
        "t5.labels": predicted.labels,
        "t5.decoder_attention_mask": (predicted.labels != IGNORED).long(),
    }
    for what, ours in {**figures, **discrete}.items():
        golden = case.tensor(what)
        if golden is not None:
            (checks.equal if what in discrete else checks.close)(what, ours, golden)


def _check_selection(model: SeViLA, case: Case, checks: Checks, positions: torch.Tensor) -> None:
    checks.equal("selected_frame_idx", positions, case["selected_frame_idx"])
    tokens = watch_case(model, case)
    yes = model.score_frames(tokens.fold(tokens.localizer.tokens), case["inputs"]["loc_input"]).yes
    checks.close("loc_yes_logits", yes, case["loc_yes_logits"])
    close_if_stored(case, checks, "loc.yes_logits", yes)
    checks.close("topk_margin", margin(yes, case["frame_num"]), case["topk_margin"], scale=yes)


def _yes_no_targets(model: SeViLA, case: Case, checks: Checks, task: PublishedTask, batch: ClipBatch) -> list[str]:
    """Return "yes" and "no" for every frame, comparing pseudo-labels where the task makes them."""
    if task is PRETRAINING:
        relevant = [
            inside_windows(times.numpy(), q.windows or ())
            for times, q in zip(batch.times_s, batch.questions, strict=True)
        ]
        return ["yes" if yes else "no" for row in relevant for yes in row.tolist()]
    prompt, features = given_prompt(case), model.features(batch.pixels.flatten(0, 1))
    states = model.states("answerer", features).unflatten(0, batch.pixels.shape[:2])
    asked = [prompt.answerer(question) for question in batch.questions]
    choices = model.frame_choices(states, asked, [len(question.options) for question in batch.questions])
    checks.equal("pseudo_answer_pred", choices, case["pseudo_answer_pred"])
    pairs = zip(choices.tolist(), batch.questions, strict=True)
    labels = ["yes" if choice == question.answer else "no" for row, question in pairs for choice in row]
    checks.equal("pseudo_labels", labels, case["pseudo_labels"])
    watched = watch_case(model, case)
    tokens, prompts = watched.fold(watched.answerer.tokens), case["inputs"]["qa_input"]
    logits = model.choose_after_option(tokens, prompts, num_options=case["answer_num"], packing=PerFramePacking())
    close_if_stored(case, checks, "qa.answer_logits_teacher_forced_pos1", logits)
    checks.close("pseudo_answer_margin", margin(logits), case["pseudo_answer_margin"], scale=logits)
    targets = [option_target(q.answer or 0) for q in batch.questions for _ in range(case["t"])]
    unused = model.text_loss(tokens, prompts, targets, packing=PerFramePacking()).loss
    checks.close("qa_loss_unused", unused, case["qa_loss_unused"], stage=_LOSS)
    return labels
