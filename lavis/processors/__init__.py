"""From a question and an open video to what a model reads: prompts and pixels."""

from lavis.common.registry import registry

registry.processors.declare("blip2_video_train", "lavis.processors.transforms:RandomClip")
registry.processors.declare("blip_video_eval", "lavis.processors.transforms:UniformClip")
