"""The image-language model, its two roles, and the pipeline that asks it about videos."""

import logging

from lavis.common.registry import registry

registry.models.declare("sevila", "lavis.models.sevila.model:SeViLA")
registry.models.declare("hf", "lavis.models.hf.model:HFModel")
registry.models.declare("openai", "lavis.models.api.model:ServedModel")
registry.vision_towers.declare("blip2_vit_g", "lavis.models.vision.blip2:Blip2VisionTower")
registry.vision_towers.declare("timm", "lavis.models.vision.timm:TimmVisionTower")
registry.frame_packings.declare("joint", "lavis.models.sevila.model:JointPacking")
registry.frame_packings.declare("per_frame", "lavis.models.sevila.model:PerFramePacking")

# Where torchao is installed, transformers imports it, and it warns of every kernel for other machines.
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)
