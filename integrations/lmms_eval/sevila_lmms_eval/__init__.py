"""A plugin of lmms-eval: the model `sevila_frames` shows chosen frames to another of its models."""

from typing import Any


def manifest() -> Any:
    """Return what lmms-eval registers; called by its entry point `lmms_eval.models`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("sevila_frames", simple_class_path="sevila_lmms_eval.wrapper.SevilaFrames")
