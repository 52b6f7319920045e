"""`sevila train`, `sevila evaluate`, `sevila report`: run recipes, and set their figures beside the published ones."""

import argparse
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lavis.cli.common import (
    add_cache_options,
    add_command,
    add_recipes,
    add_settings,
    add_speed_options,
    cache_of,
    checked_options,
    chosen_recipes,
    say,
)
from lavis.common.errors import ConfigError, UserError, counted
from lavis.common.files import configs_dir

if TYPE_CHECKING:
    from lavis.common.distributed import World
    from lavis.runners.config import EvaluationConfig, TrainConfig

_TRAIN_EXAMPLES = """examples:
  sevila train --recipe nextqa/refine --dry-run
  sevila train --recipe nextqa/finetune --options run.output_dir=output/ft run.batch_size_train=4
  torchrun --nproc_per_node=4 train.py --recipe qvh/pretrain
  sevila train --recipe nextqa/refine nextqa/finetune --iterations 2
"""
_EVALUATE_EXAMPLES = """examples:
  sevila evaluate --recipe nextqa/inference --options run.output_dir=output/nextqa
  torchrun --nproc_per_node=4 evaluate.py --recipe star/inference
  sevila evaluate compare output/nextqa output/nextqa_uniform
  sevila evaluate fit-moments output/qvh
  sevila evaluate moments --submission submission.jsonl --gt highlight_val_release.jsonl --published
  sevila evaluate moments --submission half_of_it.jsonl --gt highlight_val_release.jsonl --partial

An evaluation that was stopped resumes where it was, with the same command.
"""
_REPORT_EXAMPLES = """examples:
  sevila evaluate --recipe nextqa/inference --options run.recipe=zeroshot_sevila
  sevila report output

A run belongs to the rows whose recipe its run.recipe names; the recipes are in configs/paper_tables.yaml.
"""
_REPORT = "paper_report"


def add_parser(subparsers: Any) -> None:
    """Add the subcommands to the main parser's."""
    parser = add_command(
        subparsers,
        "recipes",
        run_recipes,
        help="list the recipes that come with the package",
        description="List the recipes for `sevila train --recipe` and `sevila evaluate --recipe`, and what each does.",
    )
    parser.add_argument("word", metavar="WORD", nargs="?", default="", help="only those with this in their name")

    parser = add_command(
        subparsers,
        "train",
        run_train,
        help="train a stage from a recipe",
        description="Train what a recipe names. Every setting, with its default, is in configs/default.yaml.",
        examples=_TRAIN_EXAMPLES,
    )
    add_recipes(parser, several=True)
    add_settings(parser, "settings that win over the recipe, such as run.init_lr=1e-5")
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="run the recipes N times over (default: run.iterations, which is 1)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="build everything, run one step, and report; no training"
    )

    parser = add_command(
        subparsers,
        "evaluate",
        run_evaluate,
        help="measure a model on a benchmark",
        description="Answer every question of a split, and write predictions.jsonl, metrics.json and report.md.",
        examples=_EVALUATE_EXAMPLES,
    )
    add_recipes(parser, several=False)
    add_settings(parser, "settings that win over the recipe")
    add_speed_options(parser)
    add_cache_options(parser, on=False)
    _add_actions(parser.add_subparsers(metavar="ACTION"))

    parser = add_command(
        subparsers,
        "report",
        run_report,
        help="set evaluations beside the published figures",
        description=f"Print the tables, and write them to {_REPORT}.md, {_REPORT}.json and {_REPORT}.png.",
        examples=_REPORT_EXAMPLES,
    )
    parser.add_argument("runs", type=Path, metavar="RUNS_DIR", help="the folder that holds evaluations, at any depth")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: RUNS_DIR)")
    parser.add_argument("--all", action="store_true", help="show the published figures too that were not measured")
    parser.add_argument("--tables", type=Path, metavar="YAML", help="other published figures than the package's")


def _add_actions(actions: Any) -> None:
    compare = actions.add_parser("compare", help="compare two evaluations question by question")
    compare.add_argument("first", type=Path, metavar="RUN_A", help="output folder of an evaluation")
    compare.add_argument("second", type=Path, metavar="RUN_B")
    compare.add_argument("--common-only", action="store_true", help="compare the questions that both have")
    compare.set_defaults(run=run_compare)

    fit = actions.add_parser("fit-moments", help="choose how frame scores become moments, on the split val")
    fit.add_argument("folder", type=Path, metavar="RUN", help="output folder of a moment retrieval evaluation")
    fit.set_defaults(run=run_fit)

    score = actions.add_parser("moments", help="score any system's moments, in QVHighlights' format")
    add = score.add_argument
    add("--submission", type=Path, required=True, metavar="JSONL", help="in the official format")
    add("--gt", type=Path, required=True, metavar="JSONL", help="annotations: windows, and ratings of clips if any")
    add("--published", action="store_true", help="as the published evaluator does it; default: corrected")
    add("--partial", action="store_true", help="score only the queries that both files have")
    score.set_defaults(run=run_moments)
    for action in (compare, fit, score):
        action.add_argument("--out", type=Path, metavar="FILE", help="write the metrics here too, as JSON")


def run_recipes(args: argparse.Namespace) -> int:
    """Print each recipe's name and the first line of its file.

    Raises:
        ConfigError: no name has the word in it.
    """
    from lavis.common.files import recipes

    known = {name: file for name, file in recipes().items() if args.word in name}
    if not known:
        raise ConfigError(f"no recipe has {args.word!r} in its name; see: sevila recipes")
    width = max(map(len, known))
    for name, file in known.items():
        with file.open(encoding="utf-8") as lines:
            say(f"{name:<{width}}  {lines.readline().removeprefix('#').strip()}")
    return 0


def run_train(args: argparse.Namespace) -> int:
    """Train, or show what would be trained.

    Raises:
        FaultError: memory or disk is full, or another process has died or hangs.
        TerminatedError: SIGTERM came; what was done is saved.
    """
    from lavis.common.distributed import join_world
    from lavis.common.logging import start_logging
    from lavis.runners.build import num_iterations, stages_in_order, used_splits
    from lavis.runners.config import EVALUATION_SECTIONS, evaluation_of, load_train_config, task_of
    from lavis.runners.dry_run import dry_evaluation, dry_run
    from lavis.runners.faults import ended_readers, explained
    from lavis.runners.provenance import check_inputs
    from lavis.tasks.build import require_objective

    options = checked_options(args.options)
    recipes = [
        load_train_config(path, options=options, further_sections=EVALUATION_SECTIONS) for path in chosen_recipes(args)
    ]
    for recipe in recipes:
        if recipe.run.evaluate:
            check_inputs(recipe, splits=[evaluation_of(recipe).split])
        else:
            require_objective(task_of(recipe))
            check_inputs(recipe, splits=used_splits(recipe.run))
    remarks = list(dict.fromkeys(remark for recipe in recipes for remark in recipe.remarks))
    iterations = num_iterations(recipes) if args.iterations is None else args.iterations
    stages = list(stages_in_order(recipes, iterations=iterations))
    settings = recipes[0].run
    with (
        ended_readers(),
        explained(),
        join_world(device=settings.device, timeout_s=settings.distributed_timeout_s) as world,
    ):
        if args.dry_run:
            start_logging(quiet=not world.is_main)
            _announce(remarks, world)
            # Only the first stage: what later stages start from is not there yet.
            report = (dry_evaluation if stages[0].run.evaluate else dry_run)(stages[0], world)
            if world.is_main:
                say(report)
            return 0
        for number, stage in enumerate(stages):
            with logged_in(Path(stage.run.output_dir), world, remarks=remarks if number == 0 else ()):
                (_test if stage.run.evaluate else _train)(stage, world)
    return 0


def _train(config: "TrainConfig", world: "World") -> None:
    from lavis.runners.build import build_runner

    metrics = build_runner(config, world).run()
    if world.is_main:
        for split, values in metrics.items():
            say(f"{split}: {'  '.join(f'{name} {value:.4g}' for name, value in values.items())}")
        say(f"weights and figures are in {config.run.output_dir}")


def _test(config: "TrainConfig", world: "World") -> None:
    from lavis.runners.config import evaluation_of
    from lavis.runners.faults import Notice, explained

    evaluation = evaluation_of(config)
    usable_folder(evaluation)
    with Notice().listening(), explained(batch_size="run.batch_size_eval"):
        _measure(evaluation, world)


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluate by a recipe.

    Raises:
        FaultError: memory or disk is full, or another process has died or hangs.
        TerminatedError: SIGTERM came; what was done is saved.
    """
    from lavis.runners.config import load_evaluation_config
    from lavis.runners.provenance import check_inputs

    *others, path = chosen_recipes(args)
    if others:
        raise ConfigError(f"one recipe is evaluated at a time, not {len(others) + 1}")
    config = load_evaluation_config(path, options=checked_options(args.options))
    check_inputs(config.base, splits=[config.split])
    folder = usable_folder(config)
    frame_cache = cache_of(args)
    with joined_world(config) as world, logged_in(folder, world, remarks=config.base.remarks):
        _measure(config, world, cache=frame_cache, quantize=args.quantize, compiled=args.compile)
    return 0


@contextmanager
def joined_world(config: "EvaluationConfig") -> Iterator["World"]:
    """Join the processes of an evaluation for the block; however it ends, end its readers, and say why in one line.

    Raises:
        FaultError: memory or disk is full, or another process has died or hangs.
        TerminatedError: SIGTERM came; what was done is saved.
    """
    from lavis.common.distributed import join_world
    from lavis.runners.faults import Notice, ended_readers, explained

    run = config.base.run
    with (
        ended_readers(),
        Notice().listening(),
        explained(batch_size="run.batch_size_eval"),
        join_world(device=run.device, timeout_s=run.distributed_timeout_s) as world,
    ):
        yield world


@contextmanager
def logged_in(folder: Path, world: "World", *, remarks: Sequence[str]) -> Iterator[None]:
    """Use a run's folder for the block, in the main process alone, and log there; warn of odd settings."""
    from lavis.common.files import sole_use
    from lavis.common.logging import start_logging

    with sole_use(folder) if world.is_main else nullcontext():
        start_logging(file=folder / "log.txt" if world.is_main else None, quiet=not world.is_main)
        _announce(remarks, world)
        yield


def _announce(remarks: Sequence[str], world: "World") -> None:
    if world.is_main:
        for remark in remarks:
            logging.getLogger(__name__).warning(remark)


def _measure(config: "EvaluationConfig", world: "World", **loading: Any) -> None:
    """Evaluate and print the metrics; arguments and errors as for `lavis.runners.evaluation.evaluator.evaluate`."""
    from lavis.runners.evaluation.evaluator import evaluate
    from lavis.tasks.report import headline, warning_of

    metrics = evaluate(config, world, **loading)
    if world.is_main:
        say(f"{config.base.dataset_name} {config.split}: {headline(metrics)}")
        say(f"{counted(metrics['questions'], 'question')}, {metrics['unreadable']} of them unreadable")
        if metrics["unspelt"]:
            say(f"{metrics['unspelt']} questions hold text that the model cannot spell, named in predictions.jsonl")
        if warning := warning_of(metrics):
            say(warning)
        say(f"predictions, figures and report are in {config.base.run.output_dir}")


def usable_folder(config: "EvaluationConfig") -> Path:
    """Return the output folder, made if need be.

    Raises:
        ConfigError: it cannot be one, or belongs to a training run.
    """
    folder = Path(config.base.run.output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run.output_dir {folder} cannot be a folder: {error.strerror}") from error
    if (folder / "log.jsonl").exists():
        raise ConfigError(f"{folder} holds a training run; name another run.output_dir")
    return folder


def run_compare(args: argparse.Namespace) -> int:
    """Compare two evaluations."""
    from lavis.runners.evaluation.results import compare_folders

    found = compare_folders(args.first, args.second, common_only=args.common_only)
    only = f"only in {args.first} {found.only_first}, only in {args.second} {found.only_second}"
    say(f"right in both {found.both}, {only}, in neither {found.neither}")
    p_value = f"p = {found.p_value:.3g} (exact McNemar)"
    say(f"difference {found.difference:+.2f} points on {counted(found.questions, 'question')}, {p_value}")
    _write(args.out, found.as_dict())
    return 0


def run_fit(args: argparse.Namespace) -> int:
    """Fit the moments of a finished evaluation."""
    from lavis.runners.evaluation.results import fit_folder

    fitted = fit_folder(args.folder)
    threshold = "null" if fitted.threshold is None else repr(fitted.threshold)
    say(f"# fitted on {args.folder}: mAP {fitted.mean_average_precision:.2f} % on val")
    say(f"moments:\n  threshold: {threshold}\n  max_gap_frames: {fitted.max_gap_frames}")
    say(f"  span_score: {fitted.span_score}")
    _write(args.out, asdict(fitted))
    return 0


def run_moments(args: argparse.Namespace) -> int:
    """Score a submission; without `--partial`, it has to be about the queries of the ground truth."""
    from lavis.tasks.metrics.moment_retrieval import (
        corrected_report,
        published_report,
        scores_highlights,
        shared_queries,
    )
    from lavis.tasks.metrics.submission import read_ground_truth, read_submission

    protocol, measure = ("published", published_report) if args.published else ("corrected", corrected_report)
    predictions, truths = read_submission(args.submission), read_ground_truth(args.gt)
    shared = shared_queries(predictions, truths)
    metrics = measure(*shared) if args.partial else measure(predictions, truths)
    queries = {
        "scored": len(shared[1]) if args.partial else len(truths),
        "without_prediction": len(truths) - len(shared[1]),
        "without_ground_truth": len(predictions) - len(shared[0]),
    }
    say(f"protocol: {protocol}")
    meaning = "left out" if args.partial else "counted as not found; --partial leaves them out"
    say(
        f"queries: {queries['scored']} scored, {queries['without_prediction']} without prediction ({meaning}), "
        f"{queries['without_ground_truth']} without ground truth (left out)"
    )
    if predictions[0].saliency is not None and not scores_highlights(predictions, truths):
        say("highlights are not scored: the ground truth rates no clips")
    for name, value in metrics["brief"].items():
        say(f"{name} {value:.2f}")
    _write(args.out, {"protocol": protocol, **({"queries": queries} if args.partial else {}), **metrics})
    return 0


def run_report(args: argparse.Namespace) -> int:
    """Print and write the report.

    Raises:
        UserError: no folder of evaluations, or none of them has finished.
    """
    from lavis.common.files import paper_tables_path, write_text, written_whole
    from lavis.export.pictures import report_picture
    from lavis.export.records import to_json
    from lavis.export.report import load_paper_tables, make_report, markdown

    report = make_report(load_paper_tables(args.tables or paper_tables_path()), args.runs, expected=expected_facts)
    if not report.has_runs:
        begun = f"; {counted(len(report.unfinished), 'unfinished one')}" if report.unfinished else ""
        raise UserError(f"{args.runs} holds no finished evaluation{begun}; make one with: sevila evaluate")
    folder = args.out or args.runs
    page = markdown(report, every=args.all)
    write_text(folder / f"{_REPORT}.md", page)
    write_text(folder / f"{_REPORT}.json", to_json(report.as_dict()) + "\n")
    with written_whole(folder / f"{_REPORT}.png") as file:
        file.write_bytes(report_picture(report))
    say(page, end="")
    say(f"\nwritten to {folder / _REPORT}.md, .json and .png")
    return 0


@cache
def expected_facts(config: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """Return what a recipe's run says of itself in `metrics.json`, as far as its figures depend on it."""
    from lavis.common.config import load_yaml
    from lavis.models.chain import selector_name
    from lavis.runners.config import load_evaluation_config, task_of

    evaluation = load_evaluation_config(config, options=options)
    base, task = evaluation.base, task_of(evaluation.base)
    size = configs_dir() / "models" / f"sevila_{base.model.model_type}.yaml"
    expected: dict[str, Any] = {
        "model": str(load_yaml(size)["name"]) if size.is_file() else base.model.model_type,
        "split": evaluation.split,
        "num_frames": base.dataset.vis_processor.eval.n_frms,
    }
    if base.dataset.prompt != "moment":  # moments are read from all frames, whatever an answer would be read from
        expected |= {"selector": selector_name(task.selector), "reader": task.reader, "keyframes": task.keyframes}
        expected |= {"frame_num": base.model.frame_num} if task.keyframes == "frame_num" else {}
    return expected


def _write(path: Path | None, content: Mapping[str, Any]) -> None:
    from lavis.common.files import write_text

    if path is not None:
        write_text(path, json.dumps(content, indent=2) + "\n")
