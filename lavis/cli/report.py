"""`sevila report`: every measured figure beside the published one."""

import argparse
from functools import cache
from pathlib import Path
from typing import Any

from lavis.cli.options import add_command
from lavis.cli.show import say
from lavis.common.files import configs_dir

_EXAMPLES = """examples:
  sevila evaluate --cfg-path configs/sevila/inference/nextqa.yaml --options run.recipe=zeroshot_sevila
  sevila report output

A run belongs to the rows whose recipe its run.recipe names; the recipes are in configs/paper_tables.yaml.
"""
_NAME = "paper_report"


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the main parser's."""
    parser = add_command(
        subparsers,
        "report",
        run,
        help="set evaluations beside the published figures",
        description=f"Print the tables, and write them to {_NAME}.md, {_NAME}.json and {_NAME}.png.",
        examples=_EXAMPLES,
    )
    parser.add_argument("runs", type=Path, metavar="RUNS_DIR", help="the folder that holds evaluations, at any depth")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: RUNS_DIR)")
    parser.add_argument("--tables", type=Path, metavar="YAML", help="other published figures than the package's")


def run(args: argparse.Namespace) -> int:
    """Print and write the report."""
    from lavis.common.files import paper_tables_path, write_text, written_whole
    from lavis.export import to_json
    from lavis.export.pictures import report_picture
    from lavis.export.report import load_paper_tables, make_report, markdown

    report = make_report(load_paper_tables(args.tables or paper_tables_path()), args.runs, expected=expected_facts)
    folder = args.out or args.runs
    page = markdown(report)
    write_text(folder / f"{_NAME}.md", page)
    write_text(folder / f"{_NAME}.json", to_json(report.as_dict()) + "\n")
    with written_whole(folder / f"{_NAME}.png") as file:
        file.write_bytes(report_picture(report))
    say(page, end="")
    say(f"\nwritten to {folder / _NAME}.md, .json and .png")
    return 0


@cache
def expected_facts(config: Path, options: tuple[str, ...]) -> dict[str, Any]:
    """Return what a recipe's run says of itself in `metrics.json`, as far as its figures depend on it."""
    from lavis.common.config import load_yaml
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
        expected |= {"selector": task.selector, "reader": task.reader, "keyframes": task.keyframes}
        expected |= {"frame_num": base.model.frame_num} if task.keyframes == "frame_num" else {}
    return expected
