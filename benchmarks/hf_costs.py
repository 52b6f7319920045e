"""What the recipes of configs/hf take in memory and time, computed from the shapes of models and not measured.

    python -m benchmarks.hf_costs

prints two lines for each recipe, which stand in its header. A GPU that keeps up 100 TFLOP/s in bf16 is assumed (a third
of what an A100 is sold with), a question of 100 tokens, and that nothing waits for decoding. Memory is that of tensors,
without what CUDA takes for itself. What dry runs measured (`benchmarks/hf_dry_runs.py`) stands beside it.

FLOP: a layer's matrices cost two a parameter and token, attention four a pair of tokens and channel. Training runs the
language model forwards, forwards again where activations are recomputed, and back through frozen weights to the
adapters: three times the cost. The vision tower runs forwards alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lavis.common.files import configs_dir
from lavis.runners.config import TrainConfig, load_evaluation_config, load_train_config

_RATE, _TEXT, _LABEL = 100e12, 100, 10
_GIB = 2**30
QUESTIONS = {
    "nextqa": {"train": 34_132, "val": 4_996},
    "star": {"train": 45_731, "val": 7_098},
    "qvh": {"train": 7_218, "val": 1_550},
}
"""Questions of each split, as published."""
_SEARCHES = ("qvh", "charades_sta", "tacos", "tvsum")  # the Localizer alone is asked
# Pictures that the vision tower sees at once, prompts that are run at once, and what is kept of prefixes of a clip.
_PICTURES, _PROMPTS, _MAX_PREFIXES = 16, 64, _GIB


@dataclass(frozen=True)
class Shape:
    """A model of transformers: its language model (a Llama or Qwen3), and its vision tower.

    Attributes:
        tokens: of a frame.
        around: tokens before and after them in a prompt.
        joins: parameters between the two.
        heads: of width `head`: of queries, of keys and values.
        patches: of a frame, which the tower's layers see.
        tied: whether words are read and written by one matrix.
    """

    tokens: int
    around: int
    width: int
    inner: int
    layers: int
    heads: tuple[int, int]
    head: int
    words: int
    tied: bool
    patches: int
    vision_width: int
    vision_inner: int
    vision_layers: int
    joins: int

    @property
    def _adapted(self) -> list[tuple[int, int]]:
        """Sizes of the matrices of a layer's attention: of queries, keys, values and output."""
        queries, keys = (count * self.head for count in self.heads)
        return [(self.width, queries), (self.width, keys), (self.width, keys), (queries, self.width)]

    @property
    def layer(self) -> int:
        """Parameters of a layer's matrices."""
        return sum(rows * columns for rows, columns in self._adapted) + 3 * self.width * self.inner

    @property
    def vision_layer(self) -> int:
        """The same of the vision tower."""
        return 4 * self.vision_width**2 + 2 * self.vision_width * self.vision_inner

    @property
    def parameters(self) -> int:
        """Parameters of everything but adapters, without norms."""
        embeddings = self.words * self.width * (1 if self.tied else 2)
        vision = self.vision_layers * self.vision_layer + (3 * 16**2 + self.patches) * self.vision_width
        return self.layers * self.layer + embeddings + vision + self.joins

    def adapter(self, rank: int) -> int:
        """Parameters of one role's adapter."""
        return self.layers * sum(rank * (rows + columns) for rows, columns in self._adapted)

    def read(self, length: int, *, before: int = 0) -> float:
        """FLOP of reading so many tokens after others."""
        pairs = length * before + length**2 / 2
        return self.layers * (2 * self.layer * length + 4 * pairs * self.heads[0] * self.head)

    @property
    def seen(self) -> float:
        """FLOP of seeing a frame."""
        attention = 4 * self.patches**2 * self.vision_width
        each = 2 * self.vision_layer * self.patches + attention
        return self.vision_layers * each + 2 * self.joins * self.tokens


MODELS = {
    "smolvlm2-500m": Shape(
        tokens=64,
        around=8,
        width=960,
        inner=2560,
        layers=32,
        heads=(15, 5),
        head=64,
        words=49_280,
        tied=False,
        patches=1024,
        vision_width=768,
        vision_inner=3072,
        vision_layers=12,
        joins=12_288 * 960,
    ),
    "qwen3-vl-4b": Shape(
        tokens=256,  # at most
        around=8,
        width=2560,
        inner=9728,
        layers=36,
        heads=(32, 8),
        head=128,
        words=151_936,
        tied=True,
        patches=1024,
        vision_width=1024,
        vision_inner=4096,
        vision_layers=24,
        joins=4 * 4096 * (4096 + 2560),  # at the end of the tower, and at three of its layers
    ),
}


@dataclass(frozen=True)
class Cost:
    """Bytes of memory, and FLOP of one question."""

    memory: float
    flop: float


def cost_of(stage: str, config: TrainConfig, shape: Shape) -> Cost:
    """Return what a recipe takes of a GPU: one process, in bf16, with the sizes that it sets."""
    train = stage != "inference"
    frames = config.dataset.vis_processor.train.n_frms if train else config.dataset.vis_processor.eval.n_frms
    assert frames is not None, "recipes of the package name a number"
    prefix, joint = shape.tokens + shape.around, config.model.frame_num * (shape.tokens + _LABEL) + _TEXT
    alone = shape.read(prefix + _TEXT)
    chosen = shape.read(prefix) + shape.read(_TEXT, before=prefix)
    is_search = config.dataset_name in _SEARCHES
    flop = (
        frames * shape.seen
        + {
            "pretrain": frames * 3 * alone,
            "refine": frames * (alone + 3 * alone),  # the frozen Answerer, then the Localizer
            "finetune": frames * chosen + 3 * shape.read(joint),
            "inference": frames * chosen + (0 if is_search else shape.read(joint)),
        }[stage]
    )
    lora = config.model.lora
    adapter = 0 if lora is None else shape.adapter(lora.rank)
    memory = 2.0 * shape.parameters
    memory += 2 * _PICTURES * shape.patches * (4 * shape.vision_width + 2 * shape.vision_inner)
    batch = config.run.batch_size_train if train else 1
    kept = 4 * shape.layers * shape.heads[1] * shape.head * prefix * frames
    if stage in ("finetune", "inference"):
        memory += batch * (kept if kept <= _MAX_PREFIXES else 0)
    if train:
        # Both adapters in fp32, and of the one that trains gradients and two moments.
        memory += (2 + 3) * 4 * adapter
        length = batch * (joint if stage == "finetune" else frames * (prefix + _TEXT))
        memory += 2 * length * (shape.layers * shape.width + 8 * shape.width + 4 * shape.inner)
    else:
        memory += 2 * _PROMPTS * _TEXT * (8 * shape.width + 4 * shape.inner)
    return Cost(memory, flop)


def lines_of(recipe: Path) -> Iterator[str]:
    """Yield the lines that stand in a recipe's header."""
    stage = recipe.parent.name
    train = stage != "inference"
    config = load_train_config(recipe) if train else load_evaluation_config(recipe).base
    for name, shape in MODELS.items():
        cost = cost_of(stage, config, shape)
        hours = ""
        if train:
            questions = QUESTIONS[config.dataset_name]["train"] * config.run.max_epoch
            hours = f"; {cost.flop * questions / _RATE / 3600:.1f} h in all at 100 TFLOP/s"
        yield f"# {name}: {cost.memory / _GIB:.1f} GiB, {cost.flop / 1e12:.1f} TFLOP a question{hours}."


def main() -> None:
    """Print the lines of all recipes."""
    folder = configs_dir() / "hf"
    for recipe in sorted(folder.glob("*/*.yaml")):
        print(recipe.relative_to(folder))
        print(*lines_of(recipe), sep="\n")


if __name__ == "__main__":
    main()
