"""Let torchvision be imported beside a torch it was not built for, as on a test machine with CPU torch.

torchvision registers shape functions for two operators of its compiled library at import, and fails where
that library cannot be loaded (torchvision from PyPI is linked to CUDA). Declaring the two schemas is enough:
neither timm's towers nor processors of transformers call them. Use it as a pytest plugin
(`-p tests.torchvision_guard`), so that it comes before everything that might import torchvision; processes that tests
start are then guarded too, by `guarded/sitecustomize.py`.
"""

import importlib.util
import os
from pathlib import Path

import torch

MISSING_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def declare_missing_operators() -> torch.library.Library | None:
    """Declare what torchvision's library would; return the declarations, which must be kept alive, or None."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    for compiled in Path(spec.origin).parent.glob("_C*"):  # "_C.so", or "_C_stable.so" from 0.29 on
        try:
            torch.ops.load_library(str(compiled))
        except OSError:
            continue
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in MISSING_SCHEMAS:
        library.define(schema)
    return library


declared = declare_missing_operators()
_searched = os.environ.get("PYTHONPATH", "").split(os.pathsep)
_guarded = str(Path(__file__).with_name("guarded"))
if _guarded not in _searched:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_guarded, *_searched]))
