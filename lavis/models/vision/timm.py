"""Any vision transformer of the timm library as the vision tower (extra `timm`).

Shapes: N frames, P tokens, D width.
"""

from typing import Any

import torch
from torch import nn

from lavis.common.errors import ConfigError, MissingExtraError, did_you_mean
from lavis.models.machine import explained_misfit


class TimmVisionTower(nn.Module):
    """Token features of a timm model, before pooling and head.

    Raises:
        MissingExtraError: timm is not installed.
        UserError: timm is there, but torchvision does not fit the installed torch.
        ConfigError: timm knows no such model, or it does not make a sequence of tokens of an image.
    """

    # timm's annotations promise less than its modules do.
    model: Any

    def __init__(self, *, model_name: str, image_size: int = 224, pretrained: bool = False) -> None:
        super().__init__()
        try:
            with explained_misfit():
                import timm
        except ImportError as error:
            raise MissingExtraError("timm", "timm") from error
        if not timm.is_model(model_name):
            raise ConfigError(
                f"unknown timm model {model_name!r}; {did_you_mean(model_name, timm.list_models())[:200]}"
            )
        unsuited = ConfigError(
            f"timm model {model_name!r} does not make tokens of images of {image_size} pixels; "
            "give a plain vision transformer, such as timm:vit_base_patch16_clip_224"
        )
        try:
            self.model = timm.create_model(model_name, pretrained=pretrained, num_classes=0, img_size=image_size)
        except TypeError as error:  # convolutional models know no img_size
            raise unsuited from error
        self.width = int(self.model.num_features)
        self.image_size = image_size
        with torch.no_grad():
            features = self.model.eval().forward_features(torch.zeros(1, 3, image_size, image_size))
        if features.ndim != 3 or features.shape[2] != self.width:
            raise unsuited

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn pixels [N, 3, H, W] into features [N, P, D]."""
        return self.model.forward_features(pixels)
