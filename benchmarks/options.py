"""Options that all benchmarks share."""

import argparse
from pathlib import Path

SIZES = {"tiny": "tiny", "base": "base", "xl": "flant5xl", "xxl": "flant5xxl"}
DTYPES = ("fp32", "bf16", "fp16")


def add_common_options(parser: argparse.ArgumentParser, *, name: str) -> None:
    """Add size, device and where results go."""
    parser.add_argument("--size", choices=SIZES, default="tiny", help="model size (default: tiny)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="precision of our side (default: fp32)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: what torch chooses)")
    parser.add_argument("--repeats", type=int, default=3, help="measured rounds; medians are shown (default: 3)")
    parser.add_argument(
        "--json", type=Path, default=Path("output") / "benchmarks" / f"{name}.json", help="where figures are written"
    )
    parser.add_argument("--profile", type=Path, help="write a trace of one run, for Perfetto or chrome://tracing")
