"""`sevila report`: every measured figure beside the published one."""

import argparse
from pathlib import Path
from typing import Any

from lavis.cli.show import say

_EXAMPLES = """examples:
  sevila evaluate --cfg-path configs/sevila/inference/nextqa.yaml --options run.recipe=zeroshot_sevila
  sevila report output

A run belongs to the rows whose recipe its run.recipe names; the recipes are in benchmarks/paper_tables.yaml.
"""
_NAME = "paper_report"


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the subcommand to the main parser's."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "report",
        help="set evaluations beside the published figures",
        description=f"Print the tables, and write them to {_NAME}.md, {_NAME}.json and {_NAME}.png.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", type=Path, metavar="RUNS_DIR", help="the folder that holds evaluations, at any depth")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: RUNS_DIR)")
    parser.add_argument("--tables", type=Path, metavar="YAML", help="other published figures than the package's")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Print and write the report.

    Raises:
        UserError: see `lavis.runners.report.make_report` and `lavis.runners.report_tables.load_paper_tables`.
    """
    from lavis.common.files import write_text, written_whole
    from lavis.common.paths import paper_tables_path
    from lavis.export import to_json
    from lavis.runners.report import make_report
    from lavis.runners.report_page import markdown
    from lavis.runners.report_picture import picture
    from lavis.runners.report_tables import load_paper_tables

    report = make_report(load_paper_tables(args.tables or paper_tables_path()), args.runs)
    folder = args.out or args.runs
    page = markdown(report)
    write_text(folder / f"{_NAME}.md", page)
    write_text(folder / f"{_NAME}.json", to_json(report.as_dict()) + "\n")
    with written_whole(folder / f"{_NAME}.png") as file:
        file.write_bytes(picture(report))
    say(page, end="")
    say(f"\nwritten to {folder / _NAME}.md, .json and .png")
    return 0
