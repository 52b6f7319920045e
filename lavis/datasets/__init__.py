"""Annotations, dataset builders and loaders."""

from lavis.common.registry import registry

# Every benchmark is the same builder over its own file in `configs/datasets`.
for _name in ("nextqa", "star", "how2qa", "tvqa", "vlep", "qvh", "custom"):
    registry.builders.declare(_name, "lavis.datasets.builder:DatasetBuilder")

registry.processors.declare("blip2_video_train", "lavis.datasets.clips:RandomClip")
registry.processors.declare("blip_video_eval", "lavis.datasets.clips:UniformClip")
