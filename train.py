"""Train from a recipe: `python train.py --cfg-path configs/sevila/finetune/nextqa.yaml --options run.seed=1`.

The same as `sevila train`; under torchrun, on as many processes as it starts.
"""

import sys

from lavis.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
