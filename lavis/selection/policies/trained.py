"""Policies with weights of their own, which the Answerer's loss trains: the atemporal probe and differentiable top-K.

A small network scores the frames of a video for a question; the objective `learn_selector` trains it through a soft
choice, and when it is asked, the K frames that score highest are read. It looks through the scorer, as every policy
does: at the states of the model's own Answerer (`ShowsStates`), which costs nothing that answering would not, or at the
features of a dual encoder (`EmbeddingScorer`), as the atemporal probe was published.

T frames of one video, B questions about it, K keyframes, D dimensions of what a scorer shows.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import layer_norm

from lavis.common.errors import CheckpointError, ConfigError
from lavis.common.types import Question, Unread
from lavis.models.base import FrameScorer, Selection, VideoModel
from lavis.models.checkpoints.weights_io import misfits, read_metadata, read_weights, shapes_of, state_of
from lavis.models.fingerprint import digest
from lavis.models.frames import FrameSource
from lavis.selection.policies.plain import best
from lavis.selection.policies.relaxed import gumbel_top_k, perturbed_top_k
from lavis.selection.scorers.common import query_text

PART = "selector"
"""The part of a model that holds the weights of a selector while they train, and their name in files."""
WEIGHTS_FILE = f"{PART}.safetensors"

Settings = dict[str, Any]


class Learning(nn.Module):
    """The part of a model that a selector trains in: its network, once the selector is built."""

    def __init__(self) -> None:
        super().__init__()
        self.network: FrameNetwork | None = None


class FrameNetwork(nn.Module, ABC):
    """Scores the frames of a video for a question.

    Attributes:
        settings: what it is made of, as JSON values; kept beside its weights.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def forward(self, frames: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        """Return the scores [T] of frames [T, D] for a question [D]."""


class Probe(FrameNetwork):
    """A transformer over a question and frames without an order: what is asked and seen, not when (Buch et al., 2022).

    Inputs are scaled to mean 0 and deviation 1, which the published code leaves to CLIP.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        size = settings["size"]
        self.embed = nn.Linear(settings["width"], size)
        self.kinds = nn.Parameter(0.02 * torch.randn(2, size))  # of the question, and of frames
        layer = nn.TransformerEncoderLayer(
            size, settings["heads"], settings["hidden"], settings["dropout"], batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, settings["layers"], enable_nested_tensor=False)
        self.score = nn.Linear(size, 1)

    def forward(self, frames: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        """Return the scores [T] of frames [T, D] for a question [D]."""
        tokens = self.embed(_scaled(torch.cat([question[None], frames]))) * math.sqrt(self.embed.out_features)
        kinds = torch.cat([self.kinds[:1], self.kinds[1:].expand(len(frames), -1)])
        encoded: torch.Tensor = self.encoder((tokens + kinds)[None])[0, 1:]
        scores: torch.Tensor = self.score(encoded)[:, 0]
        return scores


class FrameByFrame(FrameNetwork):
    """Scores each frame beside the question, whatever the others show, as the published scorer does with patches."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        size = settings["size"]
        self.frame, self.question = nn.Linear(settings["width"], size), nn.Linear(settings["width"], size)
        self.score = nn.Sequential(nn.Linear(3 * size, settings["hidden"]), nn.GELU(), nn.Linear(settings["hidden"], 1))

    def forward(self, frames: torch.Tensor, question: torch.Tensor) -> torch.Tensor:
        """Return the scores [T] of frames [T, D] for a question [D]."""
        seen = self.frame(_scaled(frames))
        asked = self.question(_scaled(question)).expand_as(seen)
        scores: torch.Tensor = self.score(torch.cat([seen, asked, seen * asked], dim=1))[:, 0]
        return scores


def _scaled(vectors: torch.Tensor) -> torch.Tensor:
    return layer_norm(vectors, vectors.shape[-1:])


class Trained(ABC):
    """A policy that reads the K frames that its network scores highest; ties go to the earlier frame.

    Args:
        weights: the folder `best` of a run with `model.task=learn_selector`, or its `selector.safetensors`. None is
            for training alone: elsewhere nothing has been learned that frames could be chosen by.
        seed: of the weights that training begins with.
        given: what the network is made of, where that is not the default; None is not given.

    Raises:
        ConfigError: a number that cannot be.
    """

    needs_scorer = True
    name: ClassVar[str]
    kind: ClassVar[type[FrameNetwork]]
    defaults: ClassVar[Mapping[str, Any]]

    def __init__(self, *, weights: str | None, seed: int, given: Mapping[str, Any]) -> None:
        self._place = None if weights is None else Path(weights).expanduser()
        self._seed, self._given = seed, {name: value for name, value in given.items() if value is not None}
        for name, value in self._given.items():
            if name != "dropout" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"the policy {self.name} has {name} {value!r}; give a whole number, 1 or more")
        self._network: FrameNetwork | None = None

    def take_weights(self, model: VideoModel, scorer: FrameScorer) -> None:
        """Take the weights that train within the model, or else those of the file.

        Raises:
            ConfigError: there are neither, or they are of other settings than these, or of another scorer.
            CheckpointError: the file is missing or damaged.
        """
        # Weights are looked for here, not when settings are checked: a run may have yet to write them.
        seen_by, width = type(scorer).__name__, _questions(scorer, [Question("?")]).shape[1]
        learning: Learning | None = getattr(model, PART, None)
        self._network = None if learning is None else learning.network
        if self._network is None:
            own = {"policy": self.name, "width": width, "scorer": seen_by}
            self._network = self._made(own, is_learning=learning is not None).to(model.device)
            if learning is not None:
                learning.network = self._network
        held = self._network.settings
        for name, value in {"policy": self.name, **self._given, "width": width, "scorer": seen_by}.items():
            if held[name] != value:
                place = self._place or "the selector that trains"
                raise ConfigError(f"{place} has {name} {held[name]}, and here it is {value}; give the same to both")

    def _made(self, own: Settings, *, is_learning: bool) -> FrameNetwork:
        if self._place is not None:
            return _loaded(_file_in(self._place), self.kind, self.name)
        if not is_learning:
            raise ConfigError(
                f"the policy {self.name} is not trained here; train it with model.task=learn_selector, and name the "
                f"run's folder best: {{policy: {{name: {self.name}, weights: FOLDER}}}}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed)
            return self.kind({**self.defaults, **self._given, **own})

    @property
    def network(self) -> FrameNetwork:
        """What scores the frames.

        Raises:
            ConfigError: the selector was not built by `build_selector`.
        """
        if self._network is None:
            raise ConfigError(f"the policy {self.name} has no weights; build it by build_selector, with a model")
        return self._network

    def choose(
        self, frames: FrameSource, questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Score every frame for every question and keep the top K."""
        assert scorer is not None, "it needs one"
        self.network.eval()
        with torch.no_grad():
            scores = self._scores(frames, questions, scorer)
        return best(scores.double().cpu().numpy(), (Unread(),) * len(questions), k)

    def soft_choice(self, frames: FrameSource, question: Question, *, k: int, scorer: FrameScorer) -> torch.Tensor:
        """Return what K frames are made of in training: float32 [K, T], with gradient to the network."""
        return self._relaxed(self._scores(frames, [question], scorer), k)[0]

    def fingerprint(self) -> str:
        """Return a digest of all that a choice depends on."""
        return digest(self.network.settings, {PART: self.network})

    def _scores(self, frames: FrameSource, questions: Sequence[Question], scorer: FrameScorer) -> torch.Tensor:
        """Return scores [B, T] in float32, one question after the other: none depends on what else is asked."""
        where = next(self.network.parameters()).device
        seen, asked = _frames(scorer, frames).to(where), _questions(scorer, questions).to(where)
        with torch.autocast(where.type, enabled=False):
            return torch.stack([self.network(seen, question) for question in asked])

    @abstractmethod
    def _relaxed(self, scores: torch.Tensor, k: int) -> torch.Tensor:
        """Return weights [B, K, T] of scores [B, T]."""


class ATP(Trained):
    """The atemporal probe (Buch et al., CVPR 2022, arXiv 2206.01720): frames without an order, and a question.

    Published with K = 1, CLIP's embeddings, and options as words of their own. Here K frames are drawn in training,
    without replacement, and a question is one word with its options.

    Args:
        weights, seed: as for `Trained`.
        layers, heads, size, hidden, dropout: of the transformer; published: 2, 2, 128, 128, 0.1.
        temperature: of the softmax in training.
        straight_through: draw hard frames in training; False mixes frames by the softmax, without noise.
    """

    name = "atp"
    kind = Probe
    defaults: ClassVar[Mapping[str, Any]] = {"layers": 2, "heads": 2, "size": 128, "hidden": 128, "dropout": 0.1}

    def __init__(
        self,
        *,
        weights: str | None = None,
        seed: int = 0,
        layers: int | None = None,
        heads: int | None = None,
        size: int | None = None,
        hidden: int | None = None,
        dropout: float | None = None,
        temperature: float = 1.0,
        straight_through: bool = True,
    ) -> None:
        given = {"layers": layers, "heads": heads, "size": size, "hidden": hidden, "dropout": dropout}
        super().__init__(weights=weights, seed=seed, given=given)
        made = {**self.defaults, **self._given}
        if made["size"] % made["heads"]:
            raise ConfigError(f"cannot share a size of {made['size']} among {made['heads']} heads; give a multiple")
        if not 0 <= made["dropout"] < 1:
            raise ConfigError(f"cannot drop out {made['dropout']}; give 0 or more, and less than 1")
        if not temperature > 0:
            raise ConfigError(f"a temperature is {temperature}; give a number above 0")
        self._temperature, self._hard = temperature, straight_through

    def _relaxed(self, scores: torch.Tensor, k: int) -> torch.Tensor:
        return gumbel_top_k(scores, k, temperature=self._temperature, hard=self._hard)


class DifferentiableTopK(Trained):
    """Perturbed top-K (Cordonnier et al., CVPR 2021, arXiv 2104.03059), of frames in place of patches.

    In training, scores are scaled to 0..1, and each chosen frame is the mean of those that noise would choose in its
    place. The noise stays the same (published: it falls to 0 over a run, and the scores' entropy is in the loss).

    Args:
        weights, seed: as for `Trained`.
        size, hidden: of the network.
        sigma: standard deviation of the noise; published: 0.05.
        num_samples: draws for each question; published: 500.
    """

    name = "differentiable_top_k"
    kind = FrameByFrame
    defaults: ClassVar[Mapping[str, Any]] = {"size": 128, "hidden": 128}

    def __init__(
        self,
        *,
        weights: str | None = None,
        seed: int = 0,
        size: int | None = None,
        hidden: int | None = None,
        sigma: float = 0.05,
        num_samples: int = 500,
    ) -> None:
        super().__init__(weights=weights, seed=seed, given={"size": size, "hidden": hidden})
        if not sigma > 0:
            raise ConfigError(f"noise has a deviation of {sigma}; give a number above 0")
        if num_samples < 1:
            raise ConfigError(f"cannot take the mean of {num_samples} draws; give 1 or more")
        self._sigma, self._num_samples = sigma, num_samples

    def _relaxed(self, scores: torch.Tensor, k: int) -> torch.Tensor:
        low, high = scores.amin(dim=1, keepdim=True), scores.amax(dim=1, keepdim=True)
        scaled = (scores - low) / (high - low + 1e-5)
        return perturbed_top_k(scaled, k, sigma=self._sigma, num_samples=self._num_samples)


def as_metadata(network: FrameNetwork) -> dict[str, str]:
    """Return what stands beside a network's weights in their file."""
    return {"format": "pt", PART: json.dumps(network.settings)}


def _file_in(place: Path) -> Path:
    """Return the file of weights in a folder, or a file itself."""
    file = place / WEIGHTS_FILE if place.is_dir() else place
    if not file.is_file():
        raise CheckpointError(
            f"no weights of a selector at {file}; name the folder best of a run with model.task=learn_selector"
        )
    return file


def _loaded(file: Path, kind: type[FrameNetwork], policy: str) -> FrameNetwork:
    """Load a network from its file."""
    weights = read_weights(file)
    try:
        settings = json.loads(read_metadata(file).get(PART, "null"))
        held = settings["policy"]
        # Nothing is made that the file has no weights for: it may be a stranger's.
        with torch.device("meta"):
            network = kind(settings) if held == policy and settings.get("layers", 0) <= len(weights) else None
    except (ValueError, TypeError, LookupError, RuntimeError, AssertionError, ArithmeticError) as error:
        raise CheckpointError(f"{file} does not say what its selector is made of; it is damaged, or none") from error
    if held != policy:
        raise ConfigError(f"{file} holds weights of {held!r:.80}, not of {policy}; name that policy")
    shapes = {} if network is None else shapes_of(state_of(network))
    if network is None or (problems := misfits(shapes_of(weights), shapes)):
        raise CheckpointError(f"{file} does not fit its own settings: {'; '.join(problems) if network else 'layers'}")
    network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    return network


def _frames(scorer: Any, frames: FrameSource) -> torch.Tensor:
    """Return what a scorer shows of all frames: float32 [T, D]."""
    if hasattr(scorer, "frame_states"):
        states: torch.Tensor = scorer.frame_states(frames)
        return states.float()
    return torch.from_numpy(scorer.frame_features(frames)).float()


def _questions(scorer: Any, questions: Sequence[Question]) -> torch.Tensor:
    """Return what a scorer shows of questions: float32 [B, D].

    Raises:
        ConfigError: it shows nothing.
    """
    if hasattr(scorer, "text_states"):
        # One by one, so that what a question gets does not depend on what else is asked.
        texts = [query_text(question, "question_and_options") for question in questions]
        return torch.cat([scorer.text_states([text]).float() for text in texts])
    if hasattr(scorer, "frame_features") and hasattr(scorer, "query_features"):
        return torch.from_numpy(scorer.query_features(questions)).float()
    raise ConfigError(
        "a trained selector looks at features of frames, and this scorer shows none; name the scorer dual_encoder"
    )
