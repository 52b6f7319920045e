"""Image-text models that have a short name here; any other name on the hub, or a folder, works too."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lavis.common.files import read_json

# Either says how pictures and texts are read.
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class KnownModel:
    """A model on the Hugging Face hub.

    Attributes:
        repository: its name there.
        licence: of its weights, as its card states it.
        billions: of parameters.
        disk_gb: size of its weights on the hub, in gigabytes.
        checked: whether name, licence and size were all read in what its owner publishes; else they are as others
            tell them, or worked out from the number of parameters.
    """

    repository: str
    licence: str
    billions: float
    disk_gb: float
    checked: bool = True

    @property
    def memory_gb(self) -> dict[str, float]:
        """Gigabytes that the weights take in memory, by precision."""
        return {"fp32": 4 * self.billions, "bf16": 2 * self.billions}

    @property
    def facts(self) -> dict[str, Any]:
        """What to know before it is downloaded, as JSON values."""
        return {**asdict(self), "memory_gb": self.memory_gb}


KNOWN: dict[str, KnownModel] = {
    "smolvlm2-256m": KnownModel("HuggingFaceTB/SmolVLM2-256M-Video-Instruct", "Apache-2.0", 0.26, 1.0),
    "smolvlm2-500m": KnownModel("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "Apache-2.0", 0.51, 2.0),
    "smolvlm2-2.2b": KnownModel("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "Apache-2.0", 2.25, 9.0, checked=False),
    "qwen3-vl-2b": KnownModel("Qwen/Qwen3-VL-2B-Instruct", "Apache-2.0", 2.1, 4.3),
    "qwen3-vl-4b": KnownModel("Qwen/Qwen3-VL-4B-Instruct", "Apache-2.0", 4.4, 8.9, checked=False),
    "qwen3-vl-8b": KnownModel("Qwen/Qwen3-VL-8B-Instruct", "Apache-2.0", 8.8, 17.5, checked=False),
    "internvl3.5-1b": KnownModel("OpenGVLab/InternVL3_5-1B-HF", "Apache-2.0", 1.06, 2.1),
    "internvl3.5-2b": KnownModel("OpenGVLab/InternVL3_5-2B-HF", "Apache-2.0", 2.35, 4.7, checked=False),
    "llava-onevision-0.5b": KnownModel(
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "Apache-2.0", 0.89, 1.8, checked=False
    ),
    "qwen3.5-0.8b": KnownModel("Qwen/Qwen3.5-0.8B", "Apache-2.0", 0.87, 1.75),
    "qwen3.5-2b": KnownModel("Qwen/Qwen3.5-2B", "Apache-2.0", 2.3, 4.6, checked=False),
    "gemma-4-e2b": KnownModel("google/gemma-4-E2B-it", "Apache-2.0", 5.1, 10.2, checked=False),
}
"""None of them was run where this was written, without a hub: tiny models of their families were."""


def is_model(source: str) -> bool:
    """Tell whether a source is for transformers: a short name, a name on the hub, or a folder of such a model."""
    if source in KNOWN or is_on_hub(source):
        return True
    folder = Path(source)
    if (folder / "localizer").is_dir() or (folder / "answerer").is_dir():
        return (folder / "config.json").is_file()
    try:
        content = read_json(folder / "config.json")
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        content = None
    says_so = isinstance(content, dict) and isinstance(content.get("model_type"), str)
    return says_so or any((folder / name).is_file() for name in PROCESSOR_FILES)


def is_on_hub(source: str) -> bool:
    """Tell whether a source reads as a name on the hub, OWNER/NAME, and is no path on this machine."""
    owner, slash, name = source.partition("/")
    return (
        bool(owner and slash and name)
        and "/" not in name
        and owner not in (".", "..", "~")
        and not Path(source).exists()
    )
