"""Runs `transformers serve` where torchvision cannot decode pictures, as beside a CPU build of torch.

python -m tests.vlm.serving FOLDER --port 8000 ...
"""

import io
import sys
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests import torchvision_guard


def _decode_image(data: Any, **_: Any) -> torch.Tensor:
    """Decode a picture [C, H, W] from its bytes, which come as a tensor."""
    picture = Image.open(io.BytesIO(bytes(data.numpy()))).convert("RGB")
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def main() -> None:
    import torchvision
    from transformers.cli.transformers import main as transformers

    if torchvision_guard.declared is not None:
        torchvision.io.decode_image = _decode_image
    sys.argv = ["transformers", "serve", *sys.argv[1:]]
    transformers()


if __name__ == "__main__":
    main()
