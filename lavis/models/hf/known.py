"""Image-text models that have a short name here; any other name on the hub, or a folder, works too."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownModel:
    """A model on the Hugging Face hub.

    Attributes:
        repository: its name there.
        licence: of its weights, as its card states it.
        billions: of parameters.
        disk_gb: size of its weights on the hub, in gigabytes.
        checked: whether the name, licence and size were read off the model's card.
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


KNOWN: dict[str, KnownModel] = {}


def is_model(source: str) -> bool:
    """Tell whether a source is for transformers: a short name, a name on the hub, or a folder of such a model."""
    if source in KNOWN or is_on_hub(source):
        return True
    folder = Path(source)
    if (folder / "localizer").is_dir() or (folder / "answerer").is_dir():
        return (folder / "config.json").is_file()
    return (folder / "config.json").is_file() and any(
        (folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")
    )


def is_on_hub(source: str) -> bool:
    """Tell whether a source reads as a name on the hub, OWNER/NAME, and is no path on this machine."""
    owner, slash, name = source.partition("/")
    return (
        bool(owner and slash and name)
        and "/" not in name
        and owner not in (".", "..", "~")
        and not Path(source).exists()
    )
