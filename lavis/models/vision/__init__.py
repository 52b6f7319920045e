"""Vision towers: pixels to patch features. New ones are one `declare` line here."""

from lavis.common.registry import registry

registry.vision_towers.declare("blip2_vit_g", "lavis.models.vision.blip2:Blip2VisionTower")
registry.vision_towers.declare("timm", "lavis.models.vision.timm:TimmVisionTower")
