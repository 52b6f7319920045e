"""Cases whose language model runs in bf16: indicative figures, compared loosely.

Only what comes before the first discrete decision can be compared: where two frames or tokens lie
closer than the rounding, everything after the choice is another computation.
"""

import torch

from lavis.models.sevila.model import SeViLA
from parity.checks import Checks
from parity.directory import Case
from parity.inference import check_tokens, close_if_stored, packing_of, watch_case
from parity.training import published_task, training_batch, training_objective

# Relative to the loss itself: between two processors alone, bf16 can move it by more than a hundredth.
_LOSS_TOLERANCE = 0.05


@torch.inference_mode()
def check_bf16_inference(model: SeViLA, case: Case, checks: Checks) -> None:
    """Compare vision exactly, and the language model's first steps loosely."""
    check_tokens(model, case, checks)
    watched = watch_case(model, case)
    close_if_stored(case, checks, "qformer_loc", watched.localizer.hidden)
    if "loc_yes_logits" in case:
        tokens, prompts = watched.fold(watched.localizer.tokens), case["inputs"]["loc_input"]
        logits = model.score_frames(tokens, prompts)
        checks.loose("loc_yes_logits", logits.yes, case["loc_yes_logits"])
        checks.loose("loc_no_logits", logits.no, case["loc_no_logits"])
    if "answer_logits" in case:
        _check_first_answer_step(model, case, checks)


def _check_first_answer_step(model: SeViLA, case: Case, checks: Checks) -> None:
    """Read the very frames the published run read, whatever ours would choose."""
    watched = watch_case(model, case)
    every = [list(range(case["t"]))] * case["b"]
    positions = torch.tensor(case["out"].get("frame_idx", every))
    tokens = watched.fold(watched.answerer.tokens)[torch.arange(case["b"])[:, None], positions]
    packing = packing_of(published_task(case))
    text = model.language.tokenize(case["inputs"]["qa_input"], end_of_text=True)
    first = model.language.first_step(packing.inputs(model.language, tokens, text))
    golden = case.tensor("qa.scores0")
    if golden is not None:
        checks.loose("qa.scores0", first, golden)


def check_bf16_training(model: SeViLA, case: Case, checks: Checks) -> None:
    """Compare the loss."""
    check_tokens(model, case, checks)
    loss = float(training_objective(case)(model, training_batch(case))["loss"].detach())
    for what in ("loss", "loss_train_mode_dropout0"):
        golden = case[what]
        checks.close(what, loss, golden, extra=_LOSS_TOLERANCE * abs(golden), note="bf16")
