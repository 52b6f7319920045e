"""The published training loop of ten iterations, and what its checkpoints keep."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.names import ALIAS, PUBLISHED
from lavis.runners.optim import Schedule, build_adamw
from lavis.tasks.build import PRETRAINING, PublishedTask, resolve_task, trained_by_published_code
from parity.checks import Checks, Stage
from parity.directory import Case, GoldenDirectory
from parity.training import require_published_gradients, training_batch, training_objective


def check_loop(
    directory: GoldenDirectory, name: str, loop: dict[str, Any], checks: Checks, *, disturbance: float = 0.0
) -> None:
    """Train as the published runner does: undivided losses, leftover gradients carried into the next epoch.

    Args:
        disturbance: of each weight at the start, relative to it, and of each entry of the gradients, relative to their
            root mean square: standard deviations.
    """
    model = directory.build(disturbance=disturbance)
    generator = torch.Generator().manual_seed(0)
    task = PRETRAINING if loop["kind"] == "fmr" else resolve_task(loop["task"])
    require_published_gradients(model, task)
    names = {id(parameter): PUBLISHED.theirs(name) or "" for name, parameter in model.named_parameters()}
    settings = {key: value for key, value in loop["sched"].items() if key != "name"}
    schedule = Schedule(**settings, steps_per_epoch=loop["iters_per_epoch"], as_published=True)
    first = loop["groups"][0]
    optimizer = build_adamw(
        model.named_parameters(), lr=settings["init_lr"], weight_decay=first["weight_decay"], betas=first["betas"]
    )
    for ours, golden in zip(optimizer.param_groups, loop["groups"], strict=True):
        checks.equal("parameter group", sorted(names[id(p)] for p in ours["params"]), sorted(golden["names"]))
        settings_of = [ours["weight_decay"], *ours["betas"], ours["eps"]]
        checks.equal("group settings", settings_of, [golden["weight_decay"], *golden["betas"], golden["eps"]])
    steps = 0
    figures = list(zip(loop["losses"], loop["lrs"], strict=True))
    checks.equal("iterations", loop["epochs"] * loop["iters_per_epoch"], len(figures))
    for epoch in range(loop["epochs"]):
        for step in range(loop["iters_per_epoch"]):
            number = epoch * loop["iters_per_epoch"] + step
            golden_loss, golden_rate = figures[number]
            rate = schedule.rate(epoch=epoch, step=step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = loop["batches"][step]
            case = Case({**loop, "name": name, "answer_num": 5, "video": batch["video"], "inputs": batch}, directory)
            loss = training_objective(case)(model, training_batch(case))["loss"]
            loss.backward()
            checks.close(f"loss {number}", loss, golden_loss, stage=Stage("loss", steps))
            checks.close(f"learning rate {number}", rate, golden_rate, scale=settings["init_lr"])
            if (step + 1) % loop["accum_grad_iters"] == 0:
                if disturbance:
                    _disturb([p.grad for p in model.parameters() if p.grad is not None], disturbance, generator)
                optimizer.step()
                optimizer.zero_grad()
                steps += 1
        _check_parameters(model, loop[f"params_after_epoch{epoch}"], checks, epoch=epoch)
    _check_final(directory, name, model, checks, epochs=loop["epochs"])
    kept = checkpoint_names(task, directory.weights)
    checks.equal("checkpoint keys", sorted(kept), sorted(loop["checkpoint_model_keys"]))
    checks.equal("optimizer", type(optimizer).__name__, loop["optimizer"])


def check_task(directory: GoldenDirectory, content: dict[str, Any], checks: Checks) -> None:
    """Compare what a published task trains and what its checkpoint keeps."""
    task = PRETRAINING if content["kind"] == "fmr" else resolve_task(content["task"])
    weights = directory.weights
    trained = trained_by_published_code(task, [n for n in weights if _is_parameter(n)])
    checks.equal("requires_grad", sorted(trained), sorted(content["requires_grad"]))
    checks.equal("checkpoint_keys", sorted(checkpoint_names(task, weights)), sorted(content["checkpoint_keys"]))
    held = _held(task, weights)
    checks.equal("n_state_dict_keys", len(held), content["n_state_dict_keys"])
    checks.equal("n_params", len([n for n in held if _is_parameter(n)]), content["n_params"])


def checkpoint_names(task: PublishedTask, names: Iterable[str]) -> set[str]:
    """Return what the published runner saves: all that trains, and every buffer and alias, which it overlooks."""
    held = _held(task, names)
    trained = trained_by_published_code(task, [name for name in held if _is_parameter(name)])
    return trained | {name for name in held if not _is_parameter(name)}


def _held(task: PublishedTask, names: Iterable[str]) -> list[str]:
    """Return the names of the published model of this task: without a role's parts where it has none."""
    names = list(names)
    if task is PRETRAINING:
        gone = ("Qformer.", "query_tokens", "t5_proj.", "ln_vision.")
        return [name for name in names if not name.startswith(gone) or name.startswith("query_tokens_loc")]
    if task.has_localizer:
        return names
    return [name for name in names if not name.startswith(("Qformer_loc.", "query_tokens_loc", "t5_proj_loc."))]


def _disturb(gradients: Sequence[torch.Tensor], disturbance: float, generator: torch.Generator) -> None:
    """Add to each entry what rounding adds, also where nothing else is there.

    Keys' biases do not change attention, and so their gradients are rounding alone, which AdamW scales to full steps.
    """
    every = torch.cat([gradient.flatten() for gradient in gradients])
    for gradient in gradients:
        noise = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        gradient += disturbance * every.square().mean().sqrt() * noise


def _check_parameters(model: SeViLA, golden: dict[str, Any], checks: Checks, *, epoch: int) -> None:
    """Compare norm and sum of every parameter."""
    parameters = {PUBLISHED.theirs(name): parameter for name, parameter in model.named_parameters()}
    for name, figures in golden.items():
        value, scale = parameters[name].detach(), [figures["norm"], figures["sum"]]
        # All of a key's bias goes where rounding drives it.
        stage = Stage("keys' biases" if name.endswith(".key.bias") else "parameters", epoch)
        for what, ours in {"norm": value.norm(), "sum": value.sum()}.items():
            checks.close(f"{what} of {name} after epoch {epoch}", ours, figures[what], scale=scale, stage=stage)


def _check_final(directory: GoldenDirectory, name: str, model: SeViLA, checks: Checks, *, epochs: int) -> None:
    prefix = f"{name}/final."
    parameters = {PUBLISHED.theirs(name): parameter for name, parameter in model.named_parameters()}
    for key, golden in directory.tensors.items():
        if key.startswith(prefix):
            ours, stage = parameters[key.removeprefix(prefix)].detach(), Stage("final parameters", epochs)
            checks.close(f"final {key.removeprefix(prefix)}", ours, golden, stage=stage)


def _is_parameter(published: str) -> bool:
    """Tell a published parameter from buffers and aliases."""
    ours = PUBLISHED.ours(published)
    return ours is not None and not ALIAS.fullmatch(ours)
