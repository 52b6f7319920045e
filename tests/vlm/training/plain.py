"""Image-text models asked as the documentation of transformers and peft shows: the truth that ours is compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

Content = Sequence[str | Image.Image]
YES, NO = ("yes", "Yes", "YES"), ("no", "No", "NO")


class Plain:
    """A model in float64, with one adapter of peft over it."""

    def __init__(self, base: Path, adapter: Path | None = None, *, trains: bool = False) -> None:
        from peft import PeftModel
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.processor = AutoProcessor.from_pretrained(base)
        self.network: Any = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float64)
        if adapter is not None:
            self.network = PeftModel.from_pretrained(
                self.network, adapter, is_trainable=trains, autocast_adapter_dtype=False
            ).double()
        self.network.eval()

    def logits(self, content: Content) -> torch.Tensor:
        """Logits [V] of what comes after one message."""
        parts = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
            for part in content
        ]
        given = self.processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        return self.network(**given.to(torch.float64)).logits[0, -1]

    def log_probability(self, logits: torch.Tensor, words: Sequence[str]) -> torch.Tensor:
        """Logarithm of the probability that one of these words comes next, with or without a space before it."""
        encoded = [
            self.processor.tokenizer(f"{space}{word}", add_special_tokens=False)
            for space in (" ", "")
            for word in words
        ]
        ids = sorted({found["input_ids"][0] for found in encoded if len(found["input_ids"]) == 1})
        return logits.log_softmax(-1)[ids].logsumexp(-1)
