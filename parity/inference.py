"""Cases that run the published inference: chained, uniform, per frame, and the stand-alone Localizer.

Shapes: B questions, T frames, K keyframes, Q query tokens, E language width, O options.
"""

from dataclasses import dataclass
from typing import Any

import torch

from lavis.common.types import Integers
from lavis.models.language.t5 import LanguageInput
from lavis.models.sevila.model import FramePacking, JointPacking, PerFramePacking, SeViLA
from lavis.models.vision.blip2 import VisualPrompter
from lavis.selection.policies.plain import top_positions
from lavis.tasks.build import PRETRAINING, PublishedTask, resolve_task
from parity.checks import Checks, margin
from parity.directory import Case

_PUBLISHED_STEPS = 30


@dataclass(frozen=True)
class PrompterStages:
    """What a visual prompter makes of features [N, P, D], step by step.

    Attributes:
        normed: [N, P, D] after LayerNorm.
        hidden: [N, Q, width of the Q-Former] after the Q-Former.
        tokens: [N, Q, E] after projection.
    """

    normed: torch.Tensor
    hidden: torch.Tensor
    tokens: torch.Tensor


def prompter_stages(prompter: VisualPrompter, features: torch.Tensor) -> PrompterStages:
    """Run a visual prompter, and return what is made on the way too."""
    made: list[torch.Tensor] = []
    hooks = [
        prompter.norm.register_forward_hook(lambda _, __, normed: made.append(normed)),
        prompter.proj.register_forward_pre_hook(lambda _, given: made.append(given[0])),
    ]
    tokens = prompter(features)
    for hook in hooks:
        hook.remove()
    normed, hidden = made
    return PrompterStages(normed, hidden, tokens)


@dataclass(frozen=True)
class Watched:
    """A case's frames as both roles see them, stage by stage; all [B * T, ...]."""

    features: torch.Tensor
    localizer: PrompterStages
    answerer: PrompterStages
    shape: tuple[int, int]

    def fold(self, tokens: torch.Tensor) -> torch.Tensor:
        """Fold [B * T, ...] to [B, T, ...]."""
        return tokens.unflatten(0, self.shape)


def watch_case(model: SeViLA, case: Case) -> Watched:
    """Encode the case's frames."""
    pixels = case.pixels
    features = model.features(pixels.flatten(0, 1))
    shape = (pixels.shape[0], pixels.shape[1])
    return Watched(
        features, prompter_stages(model.localizer, features), prompter_stages(model.answerer, features), shape
    )


def close_if_stored(case: Case, checks: Checks, what: str, ours: torch.Tensor) -> None:
    """Compare with a tensor of the case, if it is stored: not every case keeps every tensor."""
    golden = case.tensor(what)
    if golden is not None:
        checks.close(what, ours, golden)


def check_vision(watched: Watched, case: Case, checks: Checks, *, read: torch.Tensor) -> None:
    """Compare vision tower and prompters; `read` are the rows of [B * T] frames the Answerer reads."""
    figures = {
        "vit": watched.features,
        "ln_vision": watched.answerer.normed,
        "ln_vision_loc": watched.localizer.normed,
        "qformer_loc": watched.localizer.hidden,
        "t5_proj_loc": watched.localizer.tokens,
        "qformer": watched.answerer.hidden[read],
        "t5_proj": watched.answerer.tokens[read],
    }
    for what, ours in figures.items():
        close_if_stored(case, checks, what, ours)


def check_tokens(model: SeViLA, case: Case, checks: Checks) -> None:
    """Compare every call of the tokenizer: ids and masks."""
    for number, call in enumerate(case["tokenizer_calls"]):
        ours = model.language.tokenize(call["text"], end_of_text=call["add_special_tokens"])
        checks.equal(f"tokenizer call {number}: ids", ours.ids, call["input_ids"])
        checks.equal(f"tokenizer call {number}: mask", ours.mask, call["attention_mask"])
        checks.equal(f"tokenizer call {number}: limit", model.language.max_text_length, call["max_length"])


@torch.inference_mode()
def check_inference(model: SeViLA, case: Case, checks: Checks) -> None:
    """Run a "generate" case and compare everything that was measured of it."""
    task = PRETRAINING if case["kind"] == "fmr" else resolve_task(case["task"])
    watched = watch_case(model, case)
    checks.equal("batch and frames", watched.shape, [case["b"], case["t"]])
    check_tokens(model, case, checks)
    patched = case.tensor("patched_lm_head_eos_row")
    if patched is not None:
        # The case was made to end at its first step by overwriting this row.
        model.language.model.lm_head.weight[model.language.tokenizer.eos_token_id] = patched
    if task is PRETRAINING:
        check_vision(watched, case, checks, read=torch.arange(0))
        _check_yes_no(model, case, checks, watched)
        _check_moment_output(case, checks)
        return
    positions = _choose(model, case, checks, watched, task)
    rows = torch.arange(watched.shape[0])[:, None] * watched.shape[1] + torch.from_numpy(positions)
    check_vision(watched, case, checks, read=rows.flatten())
    _check_answers(model, case, checks, watched, positions, task)


@torch.inference_mode()
def answers_at_all(model: SeViLA, case: Case, task: PublishedTask) -> bool:
    """Tell whether the model gives finite scores where there is nothing to compare them with."""
    watched = watch_case(model, case)
    every = torch.arange(watched.shape[1]).expand(watched.shape[0], -1)
    if task.selector == "localizer":
        yes = model.score_frames(watched.fold(watched.localizer.tokens), case["inputs"]["loc_input"]).yes
        positions = top_positions(yes.double().numpy(), _num_keyframes(case, task))
    else:
        positions = every.numpy()
    tokens = _read_tokens(watched, positions)
    prompts = case["inputs"]["qa_input"]
    logits = model.answer(tokens, prompts, num_options=case["answer_num"], packing=packing_of(task)).logits
    return bool(torch.isfinite(logits).all())


def _num_keyframes(case: Case, task: PublishedTask) -> int:
    return {"frame_num": case["frame_num"], "one": 1, "all": case["t"]}[task.keyframes]


def packing_of(task: PublishedTask) -> FramePacking:
    """Return how the language model reads the frames of a task."""
    return JointPacking() if task.reader == "joint" else PerFramePacking()


def _read_tokens(watched: Watched, positions: Integers) -> torch.Tensor:
    row = torch.arange(watched.shape[0])[:, None]
    return watched.fold(watched.answerer.tokens)[row, torch.from_numpy(positions)]


def _choose(model: SeViLA, case: Case, checks: Checks, watched: Watched, task: PublishedTask) -> Integers:
    """Select frames as the task does, compare the scores, and return positions [B, K]."""
    batch, frames = watched.shape
    if task.selector != "localizer":
        return torch.arange(frames).expand(batch, -1).numpy()
    wanted = _num_keyframes(case, task)
    scores = _check_yes_no(model, case, checks, watched)
    positions = top_positions(scores.double().numpy(), wanted)
    if wanted < frames:
        checks.close("topk_margin", margin(scores, wanted), case["topk_margin"], scale=scores)
    if "argmax_frame_idx" in case:
        checks.equal("argmax_frame_idx", positions.tolist(), case["argmax_frame_idx"])
    return positions


def _check_yes_no(model: SeViLA, case: Case, checks: Checks, watched: Watched) -> torch.Tensor:
    """Ask the Localizer of every frame, compare, and return its "yes" logits [B, T]."""
    prompts = case["inputs"]["loc_input"]
    tokens = watched.fold(watched.localizer.tokens)
    text = model.language.tokenize(prompts, end_of_text=True)
    inputs = PerFramePacking().inputs(model.language, tokens, text)
    _check_inputs(case, checks, "loc", inputs)
    first = model.language.first_step(inputs)
    close_if_stored(case, checks, "loc.scores0", first)
    checks.equal("loc_step0_token", first.argmax(-1), case["loc_step0_token"])
    _check_decoding(model, case, checks, "loc", inputs)
    logits = model.score_frames(tokens, prompts, batch_size=5)
    for what, ours in (("yes", logits.yes), ("no", logits.no)):
        checks.close(f"loc_{what}_logits", ours, case[f"loc_{what}_logits"])
        close_if_stored(case, checks, f"loc.{what}_logits", ours)
    if "yes_no_margin" in case:
        between = (logits.yes - logits.no).abs().min()
        checks.close("yes_no_margin", between, case["yes_no_margin"], scale=logits.yes)
        checks.close("out.yes_score", logits.yes.flatten(), case["out"].get("yes_score", []))
        checks.equal("out.pred_ans", (logits.yes > logits.no).int().flatten(), case["out"]["pred_ans"])
    return logits.yes


def _check_answers(
    model: SeViLA, case: Case, checks: Checks, watched: Watched, positions: Integers, task: PublishedTask
) -> None:
    packing = packing_of(task)
    prompts, num_options = case["inputs"]["qa_input"], case["answer_num"]
    tokens = _read_tokens(watched, positions)
    inputs = packing.inputs(model.language, tokens, model.language.tokenize(prompts, end_of_text=True))
    _check_inputs(case, checks, "qa", inputs)
    steps = model.language.two_steps(inputs)
    close_if_stored(case, checks, "qa.scores0", steps.first_logits)
    close_if_stored(case, checks, "qa.scores1", steps.second_logits)
    _check_decoding(model, case, checks, "qa", inputs)
    answer = model.answer(tokens, prompts, num_options=num_options, packing=packing)
    checks.equal("qa_step0_token", answer.first_token, case["qa_step0_token"])
    # Where every sample ended at once the published code read the letters from the first step instead.
    all_ended = case["qa_num_decode_steps"] == 1
    checks.equal("answer_logits_decoder_step", 0 if all_ended else 1, case["answer_logits_decoder_step"])
    letters = model.language.option_ids(num_options)
    logits = steps.first_logits[:, letters] if all_ended else answer.logits
    checks.close("answer_logits", logits, case["answer_logits"])
    close_if_stored(case, checks, "qa.answer_logits", logits)
    checks.close("answer_margin", margin(logits), case["answer_margin"], scale=logits)
    _check_output(case, checks, positions, logits.argmax(1), task)


def _check_output(case: Case, checks: Checks, positions: Integers, chosen: torch.Tensor, task: PublishedTask) -> None:
    """Compare what the published code returned: predictions, and the inputs it hands through."""
    out = dict(case["out"])
    inputs = case["inputs"]
    # Read one frame at a time, answers and ids are repeated for each frame.
    repeats = case["t"] if task.reader == "per_frame" else 1
    ids = [question_id for question_id in inputs["question_id"] for _ in range(repeats)]
    expected: dict[str, Any] = {
        "output_text": chosen,
        "frame_idx": positions.tolist(),
        "temp_idx": list(range(case["t"])) * case["b"],
        "answer": [answer for answer in inputs["qa_output"] for _ in range(repeats)],
        "qid": "demo" if case["method"] == "generate_demo" else ids,
    }
    for what, golden in out.items():
        if what in expected:
            checks.equal(f"out.{what}", expected[what], golden)
        else:
            checks.fail(f"out.{what}", "no such output is known")


def _check_moment_output(case: Case, checks: Checks) -> None:
    out, inputs = case["out"], case["inputs"]
    labels = [word for target in inputs["qa_output"] for word in target.split("_")]
    checks.equal("out.answer", labels, out["answer"])
    checks.equal("out.qid", [qid for qid in inputs["question_id"] for _ in range(case["t"])], out["qid"])
    for what in sorted(set(out) - {"answer", "qid", "yes_score", "pred_ans"}):
        checks.fail(f"out.{what}", "no such output is known")


def _check_inputs(case: Case, checks: Checks, role: str, inputs: LanguageInput) -> None:
    close_if_stored(case, checks, f"{role}.inputs_embeds", inputs.embeds)
    mask = case.tensor(f"{role}.attention_mask")
    if mask is not None:
        checks.equal(f"{role}.attention_mask", inputs.mask, mask)


def _check_decoding(model: SeViLA, case: Case, checks: Checks, role: str, inputs: LanguageInput) -> None:
    """Compare free decoding: every token of the published sequence must be our best choice within tolerance."""
    steps = case["generate_kwargs"].get("max_length", _PUBLISHED_STEPS)
    sequences = case.tensor(f"{role}.sequences")
    measured = case[f"{role}_num_decode_steps"]
    if sequences is None:
        decoded = model.language.generate_ids(inputs, max_new_tokens=steps)[0].shape[1] - 1
        checks.equal(f"{role}_num_decode_steps", decoded, measured)
        return
    checks.equal(f"{role}_num_decode_steps", sequences.shape[1] - 1, measured)
    tokenizer = model.language.tokenizer
    checks.equal(f"{role}.sequences: start", sequences[:, 0].unique(), [tokenizer.pad_token_id])
    chosen = sequences[:, 1:]
    ended = (chosen == tokenizer.eos_token_id).cumsum(1)
    after_end = (ended - (chosen == tokenizer.eos_token_id).long()) > 0
    logits = model.language.teacher_forced(inputs, chosen)
    behind = logits.amax(-1) - logits.gather(-1, chosen[..., None]).squeeze(-1)
    checks.close(f"{role}.sequences: greedy", behind[~after_end], torch.zeros(int((~after_end).sum())), scale=logits)
    beyond = chosen[after_end]
    checks.equal(f"{role}.sequences: padding", beyond, torch.full_like(beyond, tokenizer.pad_token_id))
