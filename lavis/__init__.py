"""SeViLA: ask a question about a video, get the keyframes and the answer.

Example:
    >>> import lavis
    >>> model = lavis.load_model("sevila", "tiny")  # doctest: +SKIP
    >>> video = model.watch("clip.mp4", num_frames=32)  # doctest: +SKIP
    >>> video.ask("What does the man do?", ["He cycles", "He swims"]).text  # doctest: +SKIP
    'He cycles'
"""

import importlib
from typing import TYPE_CHECKING, Any

from lavis.common.defaults import VERSION
from lavis.common.registry import registry

if TYPE_CHECKING:
    from lavis.common.types import Answer as Answer
    from lavis.common.types import Moments as Moments
    from lavis.common.types import Question as Question
    from lavis.common.types import Span as Span
    from lavis.models.loading import load_model as load_model
    from lavis.models.loading import load_model_and_preprocess as load_model_and_preprocess
    from lavis.models.loading import model_zoo as model_zoo

__version__ = VERSION

# Resolved at first use, so that `import lavis` waits neither for torch nor for NumPy.
_LAZY = {
    **dict.fromkeys(("Answer", "Moments", "Question", "Span"), "lavis.common.types"),
    "load_model": "lavis.models.loading",
    "load_model_and_preprocess": "lavis.models.loading",
    "model_zoo": "lavis.models.loading",
}
registry.declared_in = (
    "lavis.processors.prompts",
    "lavis.processors.chat_prompts",
    "lavis.video",
    "lavis.datasets",
    "lavis.models",
    "lavis.selection",
    "lavis.tasks",
    "lavis.runners",
)

__all__ = [
    "Answer",
    "Moments",
    "Question",
    "Span",
    "__version__",
    "load_model",
    "load_model_and_preprocess",
    "model_zoo",
    "registry",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
