"""The one entry point: `python -m benchmarks NAME [options]`.

A benchmark is a module with `SUMMARY`, `add_options(parser)` and `run(args)`.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.variants import DTYPES, SIZES
from lavis.cli.main import reported

# Every benchmark, in the order of the help text.
BENCHMARKS = {
    "inference": "benchmarks.inference",
    "training": "benchmarks.training",
    "hf": "benchmarks.hf",
    "hf-dry-runs": "benchmarks.hf_dry_runs",
    "decode": "benchmarks.decode",
    "long-video": "benchmarks.long_video",
    "startup": "benchmarks.startup",
    "agreement": "benchmarks.agreement",
    "quantization": "benchmarks.quantization",
    "scaling": "benchmarks.scaling",
    "ways": "benchmarks.ways",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all benchmarks."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    subparsers = parser.add_subparsers(metavar="NAME", required=True)
    for name, module_name in BENCHMARKS.items():
        module = importlib.import_module(module_name)
        benchmark = subparsers.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        _add_common_options(benchmark, name=name, sizes=getattr(module, "SIZES", SIZES))
        module.add_options(benchmark)
        benchmark.set_defaults(run=module.run)
    return parser


def _add_common_options(parser: argparse.ArgumentParser, *, name: str, sizes: Iterable[str]) -> None:
    """Add size, device and where results go."""
    parser.add_argument("--size", choices=tuple(sizes), default="tiny", help="model size (default: tiny)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="precision of our side (default: fp32)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: what torch chooses)")
    parser.add_argument("--repeats", type=int, default=3, help="measured rounds; medians are shown (default: 3)")
    parser.add_argument(
        "--json", type=Path, default=Path("output") / "benchmarks" / f"{name}.json", help="where figures are written"
    )
    parser.add_argument("--profile", type=Path, help="write a trace of one run, for Perfetto or chrome://tracing")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark and return the exit code."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    args = build_parser().parse_args(argv)
    return reported(lambda: args.run(args) or 0)


if __name__ == "__main__":
    sys.exit(main())
