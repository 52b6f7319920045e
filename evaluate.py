"""Evaluate by a recipe: `python evaluate.py --cfg-path configs/sevila/inference/nextqa.yaml --options run.seed=1`.

The same as `sevila evaluate`; under torchrun, on as many processes as it starts.
"""

import sys

from lavis.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
