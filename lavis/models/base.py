"""The protocols that models, ways to choose frames and everything that asks them share.

One question goes one way, whoever asks it::

    FrameSource -> FrameScorer -> FramePolicy -> Answerer

A scorer says how well frames suit a question, a policy chooses frames by that, an answerer reads them. All three take
frames from a `FrameSource`, which decodes and encodes what is asked for. What is peculiar to one model stays in its
own folder.

T frames of one video, B questions about it, K keyframes, O options.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lavis.common.config import Count, Decay, Positive, Text
from lavis.common.types import Cost, Floats, Integers, Question, Unread

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lavis.models.frames import FrameEncoder, FrameSource
    from lavis.processors.prompts import Prompt

_ROLES = ("localizer", "answerer")
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FrameScores:
    """How well each frame suits each question.

    Attributes:
        scores: float64 [B, T], NaN where a frame was not asked about; higher is better (SeViLA: the logit of "yes").
            Keyframes are chosen by it.
        margins: float64 [B, T]; above 0 the frame itself matches (SeViLA: "yes" minus "no"). Moments are
            found by it.
        unread: for each question, what of its prompt the model did not read.
    """

    scores: Floats
    margins: Floats
    unread: tuple[Unread, ...]


@dataclass(frozen=True)
class Selection:
    """The frames chosen for one question.

    Attributes:
        positions: int64 [K], in time order.
        scores: float64 [T], NaN for frames that were not scored; [0] where none was.
        unread: what of its prompt the scorer did not read.
        sizes: float64 [K], each frame's side as a part of the video's, for Answerers that read frames in several
            sizes (`ReadsSizes`); [0] where all have their own.
        cost: of choosing alone; None where nobody has measured it.
    """

    positions: Integers
    scores: Floats = field(default_factory=partial(np.empty, 0))
    unread: Unread = field(default_factory=Unread)
    sizes: Floats = field(default_factory=partial(np.empty, 0))
    cost: Cost | None = None

    @property
    def frames_scored(self) -> int:
        """How many frames have a score."""
        return int(np.isfinite(self.scores).sum())


@dataclass(frozen=True)
class Reading:
    """What the Answerer read out of its frames for one question.

    Attributes:
        index: the chosen option, or None for an open answer.
        text: the chosen option's text, or the generated answer.
        option_scores: float64 [O], the logits of the option letters; the mean over frames where
            frames are read one at a time; empty for an open answer, and where the model tells its choice alone.
        frame_choices: int64 [K], each frame's own choice where frames are read one at a time.
        unread: what of the prompt the model did not read.
    """

    index: int | None
    text: str
    option_scores: Floats
    frame_choices: Integers
    unread: Unread = field(default_factory=Unread)


class FrameScorer(Protocol):
    """Scores the frames of one video for several questions."""

    def score(self, frames: "FrameSource", questions: Sequence[Question], *, where: Mask | None = None) -> FrameScores:
        """Score all T frames for each of B questions, or only those where `where` [B, T] is true; the rest are NaN.

        Raises:
            NotFiniteError: a score is no number; the message names where that began.
        """


class EmbeddingScorer(FrameScorer, Protocol):
    """A scorer that encodes frames and questions into one space, and offers what it makes of them to policies.

    Some policies compare frames with each other (MDP3, diversity); `lavis.selection` asks for these two by `hasattr`.
    Features are as the model makes them, not scaled to length 1. D dimensions, N frames.
    """

    def frame_features(self, frames: "FrameSource", positions: npt.ArrayLike | None = None) -> Floats:
        """Return the features of frames: float64 [N, D], or [T, D] of all; each frame is encoded once."""

    def query_features(self, questions: Sequence[Question]) -> Floats:
        """Return the features of questions: float64 [B, D]; of a long one, the mean over its pieces."""


class ShowsStates(FrameScorer, Protocol):
    """A role of a model that shows what it reads of frames and texts, as vectors, to policies that are trained.

    These are asked for by `hasattr`, as those of `EmbeddingScorer` are, and are not compared with each other: frames
    and texts need not lie in one space. D dimensions, N frames.
    """

    def frame_states(self, frames: "FrameSource", positions: npt.ArrayLike | None = None) -> "torch.Tensor":
        """Return what the model reads of frames, the mean over its tokens: [N, D], or [T, D] of all."""

    def text_states(self, texts: Sequence[str]) -> "torch.Tensor":
        """Return what the model's language model makes of texts, the mean over its word embeddings: [B, D]."""


@runtime_checkable
class LoadsWeights(Protocol):
    """A scorer with a model of its own, which is loaded when a selector is built, not when its settings are checked."""

    def load(self, device: "str | torch.device") -> None:
        """Load what it computes with, unless it is there; `device` is where, if it was not told.

        Raises:
            CheckpointError: nothing there, files that are damaged, or another kind of model.
        """


@runtime_checkable
class ChecksQuestions(Protocol):
    """A scorer or policy that knows only some questions; runs over many ask it before they begin."""

    def check_questions(self, questions: Sequence[Question]) -> None:
        """Make sure that it knows each of them.

        Raises:
            QuestionError: it does not; the message names the question.
        """


class FramePolicy(Protocol):
    """Chooses frames of one video for several questions.

    One that may choose frames that it has not scored has an attribute `chooses_unscored`, which is true; of others a
    frame that was chosen by no finite score is an error. One that looks at margins has `reads_margins`, which is true:
    it cannot choose by scores alone that were kept from an earlier epoch.

    Attributes:
        needs_scorer: whether it asks a scorer; it gets None where it does not.
    """

    needs_scorer: bool

    def choose(
        self, frames: "FrameSource", questions: Sequence[Question], *, k: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose `k` frames for each question, 1 <= k <= T."""


@runtime_checkable
class TakesWeights(Protocol):
    """A policy with weights of its own: those that train within the model, or those of a file."""

    def take_weights(self, model: "VideoModel", scorer: FrameScorer) -> None:
        """Take them, for what this scorer shows of frames; called when a selector is built, before `choose`.

        Raises:
            ConfigError: there are none, or they are of other settings.
            CheckpointError: a file is missing or damaged.
        """


@runtime_checkable
class DecidingPolicy(Protocol):
    """A policy that can also decide how many frames are read (`k: auto`), beside what every `FramePolicy` does.

    One with an attribute `most` has that as the most, where nobody says another.
    """

    def decide(
        self, frames: "FrameSource", questions: Sequence[Question], *, most: int, scorer: FrameScorer | None
    ) -> list[Selection]:
        """Choose as many frames for each question as the rule finds, from 1 to `most`; `most` <= T."""


@runtime_checkable
class SizingPolicy(Protocol):
    """A policy that chooses frames to be read at several sizes, beside what every `FramePolicy` does."""

    def sizes(self, k: int, *, num_frames: int) -> Floats:
        """Return the sizes of the frames that it would choose of so many, in any order; [0] for their own."""


class Answerer(Protocol):
    """Answers several questions about one video, each from its own frames."""

    def answer(self, frames: "FrameSource", positions: Integers, questions: Sequence[Question]) -> list[Reading]:
        """Read frames at `positions` [B, K] (in time order) and answer each of B questions.

        The questions all have options, or none of them has.

        Raises:
            NotFiniteError: a score is no number; the message names where that began.
        """


@runtime_checkable
class CountsTokens(Protocol):
    """An Answerer that knows how many tokens of its language model a frame takes."""

    def frame_tokens(self, frames: "FrameSource", sizes: Floats) -> Integers:
        """Return the tokens of frames read at these sizes [K], parts of their own: int64 [K]."""


@runtime_checkable
class ReadsSizes(Protocol):
    """An Answerer that can read frames at other sizes than their own."""

    @property
    def reads_sizes(self) -> bool:
        """Whether the size of a picture makes a difference to it."""

    def answer(
        self,
        frames: "FrameSource",
        positions: Integers,
        questions: Sequence[Question],
        *,
        sizes: Floats | None = None,
    ) -> list[Reading]:
        """Answer as every `Answerer`, from frames at `sizes` [B, K], parts of their own."""


class VideoModel(Protocol):
    """A model that fills both roles."""

    @property
    def device(self) -> "torch.device":
        """Where the model computes."""

    @property
    def caveats(self) -> tuple[str, ...]:
        """What goes with every answer, such as that the weights are untrained."""

    @property
    def encoders(self) -> "tuple[FrameEncoder, ...]":
        """What the roles read of frames: all that has to be kept of a video to ask it anything."""

    def watching_key(self) -> str:
        """Return a digest of everything that encoded frames depend on beside the frames."""

    def as_scorer(self, *, prompt: "str | Prompt") -> FrameScorer:
        """Return the role that scores frames, asking in the words of a prompt class by name."""

    def as_answerer(self, *, prompt: "str | Prompt", packing: str) -> Answerer:
        """Return the role that answers; frames are packed "joint" or "per_frame" (`registry.frame_packings`)."""


@dataclass(frozen=True)
class RelevanceLoss:
    """How well the Localizer tells relevant frames from others.

    Attributes:
        loss: scalar, with gradient.
        says_yes: bool [B, T], whether "yes" is likelier than "no".
    """

    loss: "torch.Tensor"
    says_yes: "torch.Tensor"


@dataclass(frozen=True)
class AnswerLoss:
    """How well the Answerer writes the right option.

    Attributes:
        loss: scalar, with gradient.
        is_right: bool [rows], whether the right letter is the likeliest token; a row is a question, or one of its
            frames where frames are read alone.
    """

    loss: "torch.Tensor"
    is_right: "torch.Tensor"


@dataclass(frozen=True)
class RoleLoRA:
    """What one role's adapter has of its own; None is as for both, see `LoRA`."""

    rank: Count | None = None
    alpha: Positive | None = None
    dropout: Decay | None = None
    targets: Text | None = None


@dataclass(frozen=True)
class LoRA:
    """What the adapters of a model's roles are made of.

    Attributes:
        rank: of the two matrices that are added to a layer's.
        alpha: their product is scaled by alpha / rank.
        dropout: of what goes into them, in training.
        targets: pattern of the names of adapted layers; None is the attention of the language model.
        localizer, answerer: what one role's adapter has in place of that.
    """

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: Decay = 0.05
    targets: Text | None = None
    localizer: RoleLoRA | None = None
    answerer: RoleLoRA | None = None

    def of(self, role: str) -> "LoRA":
        """Return the settings of one role's adapter."""
        own = getattr(self, role)
        changes = {} if own is None else {name: value for name, value in vars(own).items() if value is not None}
        return replace(self, localizer=None, answerer=None, **changes)

    def as_mapping(self) -> dict[str, Any]:
        """Return the settings as they are written; roles without any of their own are left out."""
        return {name: value for name, value in asdict(self).items() if name not in _ROLES or value is not None}


class WeightsNote(Protocol):
    """What is known of a model's weights."""

    @property
    def status(self) -> str:
        """Return "trained", or "untrained" for random weights."""

    @property
    def note(self) -> str:
        """Return one sentence that goes with every answer, or an empty text."""


@dataclass(frozen=True)
class KnownWeights:
    """What is known of the weights of a model whose own files do not say; see `WeightsNote`."""

    status: str = "trained"
    note: str = ""


class ModelConfig(Protocol):
    """What a model was built from, as far as others ask."""

    @property
    def name(self) -> str:
        """Return the model's name for people, and in files."""

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """Return the mean that frames are normalised by."""

    @property
    def image_std(self) -> tuple[float, float, float]:
        """Return the standard deviation that frames are normalised by."""

    @property
    def weights(self) -> WeightsNote:
        """Return what is known of the weights."""

    def as_json(self) -> str:
        """Return the text of `config.json` beside saved weights."""


class ImageTextModel(VideoModel, Protocol):
    """A trainable model in both roles: all that objectives need to know of it.

    Frames become *features* (frozen, shared by the roles), features become the *states* of a role ("localizer" or
    "answerer"), and questions are asked about states. N frames; features [N, ...] and states [N, ...] are the model's
    own in all but the first dimension. Prompts are those of a `Prompt` class.
    """

    @property
    def config(self) -> ModelConfig:
        """What the model was built from."""

    def words(self, prompt: "str | Prompt") -> "Prompt":
        """Return a prompt as this model is asked it: a name in `registry.prompts`, or a prompt.

        Raises:
            ConfigError: the model has no wording of this name.
        """

    def set_trainable(self, roles: Sequence[str]) -> None:
        """Let these roles train, and freeze everything else."""

    def trainable_parameters(self) -> "Iterator[tuple[str, nn.Parameter]]":
        """Yield the named parameters that train."""

    @property
    def feature_encoder(self) -> "FrameEncoder":
        """The step from frames to features."""

    def features(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Run the frozen vision tower alone: pixels [N, 3, H, W] to features [N, ...]."""

    def states(self, role: str, features: "torch.Tensor") -> "torch.Tensor":
        """Return what a role makes of features: [N, ...], with gradient where the role trains."""

    def relevance_loss(self, states: "torch.Tensor", prompts: Sequence[str], relevant: "torch.Tensor") -> RelevanceLoss:
        """Teach the Localizer "yes" or "no" for each frame: states [B, T, ...], B prompts, relevant bool [B, T]."""

    def answer_loss(
        self,
        states: "torch.Tensor",
        prompts: Sequence[str],
        answers: Sequence[int],
        *,
        packing: str,
        times_s: Sequence[Sequence[float]] | None = None,
    ) -> AnswerLoss:
        """Teach the Answerer the right option: states [B, K, ...], B prompts, the index of each right option.

        Args:
            times_s: [B, K], when each frame was shown, for models that are told.
        """

    def frame_choices(
        self, states: "torch.Tensor", prompts: Sequence[str], num_options: Sequence[int]
    ) -> "torch.Tensor":
        """Return the option that the Answerer chooses on each frame alone: states [B, T, ...] to int64 [B, T].

        Its letter is read right after the word "Option", whatever the model would say first: pseudo-labels are made
        so in the published code.
        """


class TrainableModel(ImageTextModel, Protocol):
    """All that the runner needs of a model beside its roles: what a new family implements to be trained and evaluated.

    It is a `torch.nn.Module`. The best weights of a run are saved as a folder with `config.json` (`config.as_json`)
    and `model.safetensors`, which holds what trains by the names of `trainable_parameters`; `load_partial` reads that.
    """

    @property
    def image_size(self) -> int:
        """Side in pixels of the square frames it watches."""

    def load_partial(self, path: str | Path) -> list[str]:
        """Put the weights of a file or folder over those of the model, and return the names of the parts it held.

        Raises:
            CheckpointError: nothing there, damaged, or weights that the model has no place for.
        """

    def load_weights(self, weights: "Mapping[str, torch.Tensor]", *, place: str | Path) -> list[str]:
        """Put weights over those of the model, by the names of its parameters; returns and raises as `load_partial`.

        Args:
            place: where they came from, for messages.
        """
        ...

    def save_pretrained(self, folder: str | Path, *, parts: Sequence[str] | None = None) -> None:
        """Save the whole model, or some of its parts, as a folder that `from_pretrained` or `load_partial` reads."""

    def save_trained(self, folder: Path, weights: "Mapping[str, torch.Tensor]") -> None:
        """Write beside the best weights of a run what other programs read of them, such as adapters; mostly nothing.

        Args:
            weights: what trained, by the names of `trainable_parameters`.
        """

    def make_digest(self) -> str:
        """Return a digest of all that answers depend on beside weights, precision and device."""

    def checkpoint_activations(self, *, method: str) -> None:
        """Recompute activations in the backward pass: "torch" or another method of `models.language.checkpointing`."""

    def prompt_warnings(self) -> list[str]:
        """Say in sentences what of prompts was not read so far, such as how many were truncated."""

    def published_names(self) -> dict[str, str]:
        """Return the names of parameters in files of a published implementation; {} where there is none."""

    def train(self, mode: bool = True) -> Any:  # noqa: FBT001, FBT002  # torch's signature
        """Put what trains into training mode; frozen parts stay in eval."""

    def eval(self) -> Any:
        """Put everything into eval mode."""

    def parameters(self) -> "Iterator[nn.Parameter]":
        """Yield all parameters, as torch does."""

    def named_parameters(self) -> "Iterator[tuple[str, nn.Parameter]]":
        """Yield all parameters with their names, as torch does."""

    def named_buffers(self) -> "Iterator[tuple[str, torch.Tensor]]":
        """Yield all buffers with their names, as torch does."""

    def parts(self) -> "dict[str, nn.Module]":
        """Return the parts by name; reports count the parameters of each."""


def model_name(model: Any) -> str:
    """Return what a model is called."""
    return str(model.config.name) if hasattr(model, "config") else type(model).__name__
