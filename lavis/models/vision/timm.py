"""Any vision transformer of the timm library as the vision tower (extra `timm`).

Shapes: N frames, P tokens, D width.
"""

import torch
from torch import nn

from lavis.common.errors import ConfigError, MissingExtraError
from lavis.common.naming import did_you_mean


class TimmVisionTower(nn.Module):
    """Token features of a timm model, before pooling and head.

    Args:
        model_name: timm's name, such as "vit_base_patch16_clip_224".
        image_size: side of the square input in pixels.
        pretrained: download timm's weights for this model.

    Raises:
        MissingExtraError: timm is not installed.
        ConfigError: timm knows no such model.
    """

    def __init__(self, *, model_name: str, image_size: int = 224, pretrained: bool = False) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise MissingExtraError("timm", "timm") from error
        if not timm.is_model(model_name):
            raise ConfigError(
                f"unknown timm model {model_name!r}; {did_you_mean(model_name, timm.list_models())[:200]}"
            )
        self.model = timm.create_model(
            model_name, pretrained=pretrained, num_classes=0, img_size=image_size, dynamic_img_size=False
        )
        self.width = int(self.model.num_features)
        self.image_size = image_size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn pixels [N, 3, H, W] into features [N, P, D]."""
        return self.model.forward_features(pixels)
