"""An image-text model of transformers, asked about frames through its own chat template.

What the vision tower makes of a frame (*features*) serves every prompt that the frame stands in, and the keys and
values of a prompt's beginning up to the frame (its *prefix*) serve every question about that frame alone.

N frames, P image tokens per frame, E language width, V vocabulary.
"""

import copy
import functools
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import TemplateError
from PIL import Image
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.utils import ModelOutput

from lavis.common.errors import ConfigError, QuestionError, counted, first_line
from lavis.models.frames import joined
from lavis.models.precision import at_least_fp32, widened
from lavis.processors.chat_prompts import spellings

logger = logging.getLogger(__name__)

# A frame stands in a message as {"type": "image"}, text as itself.
IMAGE = {"type": "image"}
# Pictures that the vision tower sees at once; on a CPU more of them leave its caches.
_CPU_PICTURES, _PICTURES = 4, 16
# A picture's sides are written beside its features as two digits each, which every precision holds exactly.
_DIGIT = 128
# Shared prefixes must give the logits of the whole prompt up to this share of their spread, by the size of a number.
# It is tried in fp32, since half precision can round a deep model by as much as tells the two apart; the last share is
# for models whose weights came in whole numbers, which cannot be.
_EXACT = {8: 1e-6, 4: 1e-4, 2: 5e-2}

# What is asked to see whether prefixes can be shared, of a picture of this height and width where none has come yet.
_TRIED = ("Is it red?", "Where is the small ball, and why?")
_SMALL = (64, 64)
# Layers of a cache that hold the keys and values of every token so far, or of the last ones.
_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)
# What processors of different families call cutting a picture into tiles.
_TILING = ("do_image_splitting", "crop_to_patches", "do_pan_and_scan")

# Tokens of a frame, at most, where nobody says: finding keyframes needs few.
FRAME_TOKENS = 256

Picture = npt.NDArray[np.uint8]
Content = Sequence[str | dict[str, str]]


@dataclass(frozen=True)
class Layout:
    """How a picture of some size stands in a prompt.

    Attributes:
        block: what the processor writes in place of the template's image token.
        tokens: image tokens of a picture: P.
        special: whether the tokenizer adds its own tokens around a whole prompt.
        rows: further inputs of the model, one row for each picture, such as its grid of patches.
        types: the input that tells image tokens from text, where the model has one.
    """

    block: str
    tokens: int
    special: bool
    rows: dict[str, torch.Tensor]
    types: str | None


@dataclass
class _Found(ModelOutput):
    """Features as models take them from their vision tower; they pass them on as one of their outputs."""

    last_hidden_state: Any = None
    pooler_output: Any = None
    deepstack_features: Any = None


@dataclass(frozen=True)
class _Prefix:
    """What all frames of a layout have in common before the question."""

    ids: tuple[int, ...]
    cache: Any
    shapes: tuple[torch.Size, ...]
    rope_deltas: torch.Tensor | None


@dataclass
class Backbone:
    """A model of transformers with its processor.

    Args:
        name: for messages.
        frame_tokens: image tokens of a frame, at most, where the processor can be told; see `set_frame_tokens`.

    Raises:
        ConfigError: a processor that cannot be used so.
    """

    model: Any
    processor: Any
    name: str
    frame_tokens: int | None = None
    _layouts: dict[tuple[int, int], Layout] = field(default_factory=dict)
    _prefixes: dict[tuple[tuple[int, int], str], _Prefix] = field(default_factory=dict)
    _shares: dict[str, bool] = field(default_factory=dict)
    _lists: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        template = getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        if not template:
            raise ConfigError(f"{self.name} has no chat template; use a model that was tuned to follow instructions")
        # What a template does not know, transformers gives to the processor, with a warning for every prompt.
        self._template_options = {"enable_thinking": False} if "enable_thinking" in str(template) else {}
        parameters = inspect.signature(type(self.model).forward).parameters
        # transformers renames the argument in its releases.
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._base = self.model.base_model
        if not hasattr(self._base, "get_image_features"):
            raise ConfigError(f"{self.name} is no model that reads pictures as tokens of its language model")
        self._feature_inputs = set(inspect.signature(self._base.get_image_features).parameters)
        if (head := self.model.get_output_embeddings()) is not None:
            head.register_forward_pre_hook(_in_one_piece)
        # Each picture whole: tiles of it would be many times the tokens.
        self._whole = {name: False for name in _TILING if hasattr(self.processor.image_processor, name)}
        set_frame_tokens(self.processor, self.frame_tokens, name=self.name)
        self._is_whole = bool(problem := self._known_problem())
        if problem:
            self._say(problem)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """What its language model computes in."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def image_token_id(self) -> int:
        """The token that features stand in place of."""
        config = self.model.config
        found = getattr(config, "image_token_id", None)
        return int(config.image_token_index if found is None else found)

    def word_ids(self, word: str) -> torch.Tensor:
        """Return the tokens that begin an answer of this word: of its spellings those that are one token.

        Raises:
            ConfigError: no spelling is.
        """
        encoded = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in spellings(word)]
        ids = sorted({ids[0] for ids in encoded if len(ids) == 1})
        if not ids:
            raise ConfigError(
                f"the tokenizer of {self.name} writes {word!r} as several tokens, so its answer cannot be read; "
                "use another model"
            )
        return torch.tensor(ids, device=self.device)

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts of the model by name; "language" is its language model."""
        language = self.model.get_decoder()
        parts = {name: part for name, part in self._base.named_children() if part is not language}
        return {**parts, "language": language}

    def picture_side(self) -> int:
        """Return the side in pixels of square pictures that the model sees without loss."""
        pictures = self.processor.image_processor
        size = getattr(pictures, "max_image_size", None) or pictures.size
        if size is None:  # a number of tokens limits it, as in Gemma 4
            return int(pictures.max_soft_tokens**0.5) * pictures.pooling_kernel_size * pictures.patch_size
        if hasattr(pictures, "merge_size") and "longest_edge" in size:
            step = int(pictures.patch_size * pictures.merge_size)
            return max(1, int(size["longest_edge"] ** 0.5) // step) * step
        return int(size.get("height") or size.get("longest_edge") or size["shortest_edge"])

    # -- prompts ------------------------------------------------------------------------------------------------------

    def render(self, content: Content) -> str:
        """Return one user's message as the model's chat template writes it, ready to be answered, without thinking.

        Raises:
            ConfigError: the template cannot write it.
        """
        parts = [{"type": "text", "text": self.plain(part)} if isinstance(part, str) else part for part in content]
        message = [{"role": "user", "content": parts}]
        try:
            text: str = self.processor.apply_chat_template(
                message, tokenize=False, add_generation_prompt=True, **self._template_options
            )
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the chat template of {self.name} cannot be used: {first_line(error)}; use another model"
            ) from error
        return text

    def plain(self, text: str) -> str:
        """Return text in which nothing is read as a control token of the model."""
        for token in self.control_tokens(text):
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def control_tokens(self, text: str) -> list[str]:
        """Return the control tokens of the model that a text happens to hold."""
        held = [one.content for one in self.tokenizer.added_tokens_decoder.values() if one.special]
        return sorted({one for one in (*held, self.processor.image_token) if one in text and len(one) > 1})

    def ids(self, content: Content, *sizes: tuple[int, int]) -> list[int]:
        """Return the tokens of a message whose pictures have this height and width, or each its own.

        Raises:
            QuestionError: more tokens than the model reads.
        """
        layouts = [self.layout(size) for size in sizes]
        between = self.render(content).split(self.processor.image_token)
        blocks = [layout.block for layout in layouts] if len(sizes) > 1 else [layouts[0].block] * (len(between) - 1)
        text = between[0] + "".join(block + more for block, more in zip(blocks, between[1:], strict=True))
        ids: list[int] = self.tokenizer(text, add_special_tokens=layouts[0].special)["input_ids"]
        longest = self.model.config.get_text_config().max_position_embeddings
        if len(ids) > longest:
            pictures = counted(sum(part == IMAGE for part in content), "frame")
            raise QuestionError(
                f"{pictures} and the question make {len(ids)} tokens, and {self.name} reads {longest}; "
                "ask for fewer keyframes, or fewer tokens per frame"
            )
        return ids

    def layout(self, size: tuple[int, int]) -> Layout:
        """Return how a picture of this height and width stands in a prompt.

        It is read off what the processor makes of a message with two pictures: with several, no family cuts them into
        tiles.

        Raises:
            ConfigError: the processor's prompt cannot be taken apart.
        """
        if size not in self._layouts:
            self._layouts[size] = self._read_layout(size)
        return self._layouts[size]

    def _read_layout(self, size: tuple[int, int]) -> Layout:
        text = self.render(["Frame at 1.0 s:", IMAGE, "Frame at 2.0 s:", IMAGE, "Which?"])
        before, between, after = self._parts(text)
        pictures = [Image.new("RGB", (size[1], size[0]))] * 2
        truth = self.processor(text=[text], images=[pictures], return_tensors="pt", **self._whole)
        ids = truth["input_ids"][0].tolist()
        written = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        pictured = written.removesuffix(after).partition(before)[2] if before else written.removesuffix(after)
        block = pictured[: (len(pictured) - len(between)) // 2]
        expanded = f"{before}{block}{between}{block}{after}"
        fits = [flag for flag in (True, False) if self._tokens(expanded, special=flag) == ids]
        if not block or not fits:
            raise ConfigError(f"cannot tell how {self.name} lays out pictures in a prompt; use another model")
        is_image = (torch.tensor(ids) == self.image_token_id).long()
        kinds = [name for name in ("mm_token_type_ids", "token_type_ids") if name in truth]
        if kinds and not torch.equal(truth[kinds[0]][0].long(), is_image):
            raise ConfigError(f"cannot tell which tokens of a prompt {self.name} takes for pictures; use another model")
        rows = {
            name: value[:1]
            for name, value in truth.items()
            if isinstance(value, torch.Tensor) and len(value) == 2 and not name.startswith("pixel")
        }
        return Layout(block, int(is_image.sum()) // 2, fits[0], rows, kinds[0] if kinds else None)

    def _parts(self, text: str) -> list[str]:
        parts = text.split(self.processor.image_token)
        if len(parts) != 3:
            raise ConfigError(f"the chat template of {self.name} leaves out pictures; use another model")
        return parts

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        return ids

    def word_states(self, text: str) -> torch.Tensor:
        """Return the embeddings [L, E] of a text's tokens; what looks like a control token is plain text."""
        ids = torch.tensor(self._tokens(self.plain(text), special=False), device=self.device)
        embeddings: torch.Tensor = self.model.get_input_embeddings()(ids)
        return embeddings

    # -- frames -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def features(self, pictures: Sequence[Picture] | Picture) -> torch.Tensor:
        """Run the vision tower on N pictures [H, W, 3]: features [N, parts, 1 + P, E].

        The first part is what stands in place of image tokens, others go into deeper layers. The row before P says how
        large the picture was (`sizes_of`); of pictures of several sizes, those with fewer tokens have zeros at the end.
        """
        at_once = _CPU_PICTURES if self.device.type == "cpu" else _PICTURES
        return joined([self._see(pictures[start : start + at_once]) for start in range(0, len(pictures), at_once)])

    def _see(self, pictures: Sequence[Picture] | Picture) -> torch.Tensor:
        count, sizes = len(pictures), [(picture.shape[0], picture.shape[1]) for picture in pictures]
        images = [Image.fromarray(picture) for picture in pictures]
        if count == 1 and "batch_num_images" in self._feature_inputs:
            images *= 2  # one alone would be cut into tiles; see `layout`
        pixels = self.processor.image_processor(images=[images], return_tensors="pt", **self._whole)
        inputs = {
            name: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for name, value in pixels.items()
            if name in self._feature_inputs
        }
        output = self._base.get_image_features(**inputs, return_dict=True)
        tokens = [self.layout(size).tokens for size in sizes]
        tokens *= len(images) // count
        parts = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
        self._lists = tuple(isinstance(part, (list, tuple)) for part in parts)
        made = torch.stack([_rows(part, tokens)[:count] for part in parts], dim=1)
        digits = made.new_tensor([[digit for side in size for digit in divmod(side, _DIGIT)] for size in sizes])
        first = made.new_zeros(count, made.shape[1], 1, made.shape[-1])
        first[..., :4] = digits[:, None, None]
        return torch.cat([first, made], dim=2)

    def sizes_of(self, features: torch.Tensor) -> list[tuple[int, int]]:
        """Return the height and width of each picture that features [N, parts, 1 + P, E] were made of."""
        # Rounded: a mix of frames holds the size of them all, but for the last bit.
        rows = features[:, 0, 0, :4].round().int().tolist()
        return [(row[0] * _DIGIT + row[1], row[2] * _DIGIT + row[3]) for row in rows]

    @property
    def reads_sizes(self) -> bool:
        """Whether pictures are read at any size, a larger one as more tokens."""
        return has_free_sizes(self.processor)

    def size_of(self, features: torch.Tensor) -> tuple[int, int]:
        """Return the height and width of pictures that are all of one size; arguments as for `sizes_of`."""
        return self.sizes_of(features[:1])[0]

    @contextmanager
    def _given(self, features: torch.Tensor) -> Iterator[None]:
        """Let the model find the features [N, parts, 1 + P, E] of its pictures in place of running its vision tower."""
        tokens = [self.layout(size).tokens for size in self.sizes_of(features)]
        main, *deeper = (
            [rows[1 : 1 + count] for rows, count in zip(part, tokens, strict=True)]
            for part in features.to(self.device).unbind(1)
        )
        # In the form that the tower makes them in, which differs between families, and between releases.
        if not self._lists:  # these were made by another process
            self.features(np.zeros((1, *self.size_of(features), 3), np.uint8))
        first, *others = self._lists
        in_one = torch.stack if len(set(tokens)) == 1 else torch.cat
        made = _Found(
            pooler_output=main if first else in_one(main),
            deepstack_features=[
                part if as_list else torch.cat(part) for part, as_list in zip(deeper, others, strict=True)
            ],
        )

        # Generation looks at the function's arguments.
        @functools.wraps(self._base.get_image_features)
        def found(*_: Any, **__: Any) -> _Found:
            return made

        self._base.get_image_features = found
        try:
            yield
        finally:
            del self._base.get_image_features

    def _run(
        self,
        ids: torch.Tensor,
        *,
        features: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Run the model on tokens [R, L], and, where they hold pictures, on their features [N, parts, 1 + P, E]."""
        if features is None:
            return self.model(input_ids=ids, **options)
        with self._given(features):
            return self.model(**self._inputs(ids, features, mask), **options)

    def _inputs(self, ids: torch.Tensor, features: torch.Tensor, mask: torch.Tensor | None) -> dict[str, Any]:
        layouts = [self.layout(size) for size in self.sizes_of(features)]
        self._forget_positions()
        inputs = {"input_ids": ids, "pixel_values": features.new_empty(0)}
        if mask is not None:
            inputs["attention_mask"] = mask
        if layouts[0].types:
            inputs[layouts[0].types] = (ids == self.image_token_id).long()
        for name in layouts[0].rows:
            inputs[name] = torch.cat([layout.rows[name] for layout in layouts]).to(self.device)
        return inputs

    def _forget_positions(self) -> None:
        """Let models that keep the positions of the last prompt count anew."""
        if hasattr(self._base, "rope_deltas"):
            self._base.rope_deltas = None

    # -- whole prompts ------------------------------------------------------------------------------------------------

    def logits(self, prompts: Sequence[list[int]], features: torch.Tensor) -> torch.Tensor:
        """Return the logits [R, V] of the next token after each of R whole prompts.

        Args:
            features: of all pictures in all prompts, in their order: [N, parts, 1 + P, E].
        """
        ids, mask = self._padded(prompts)
        return self._run(ids, features=features, mask=mask, use_cache=False, logits_to_keep=1).logits[:, -1]

    def write(self, prompts: Sequence[list[int]], features: torch.Tensor, *, max_new_tokens: int = 30) -> list[str]:
        """Return what the model writes after each prompt; arguments as for `logits`."""
        ids, mask = self._padded(prompts)
        with self._given(features):
            written = self.model.generate(
                **self._inputs(ids, features, mask), max_new_tokens=max_new_tokens, do_sample=False
            )
        texts: list[str] = self.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _padded(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens [R, L], padded at the left, and a mask of what is no padding."""
        longest = max(map(len, prompts))
        pad = self._pad_id
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in prompts], device=self.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts], device=self.device)
        return ids, mask

    @property
    def _pad_id(self) -> int:
        found = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if found is None else found)

    # -- shared prefixes ----------------------------------------------------------------------------------------------

    def split(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """Return a prompt of one picture up to its last image token, and the rest."""
        end = len(ids) - ids[::-1].index(self.image_token_id)
        return ids[:end], ids[end:]

    def prefix(self, features: torch.Tensor, ids: Sequence[int], *, state: str = "") -> torch.Tensor:
        """Return the keys and values that frames [N, parts, 1 + P, E] give a prompt that begins so, as [N, numbers].

        Args:
            state: names the weights that are active, where a model can be in several states.

        Raises:
            ConfigError: the model keeps something else.
        """
        tokens = torch.tensor(ids, device=self.device).expand(len(features), -1)
        output = self._run(tokens, features=features, use_cache=True, logits_to_keep=1)
        cache = getattr(output, self._cache_name)
        if problem := _odd_layers(cache):
            raise ConfigError(problem)
        if any(not layer.is_initialized for layer in cache.layers):
            raise ConfigError("layers share their keys and values")
        held = [part for layer in cache.layers for part in (layer.keys, layer.values)]
        shapes = tuple(part.shape[1:] for part in held)
        deltas = getattr(self._base, "rope_deltas", None)
        self._prefixes[self.size_of(features), state] = _Prefix(
            tuple(ids), _emptied(cache), shapes, None if deltas is None else deltas[:1]
        )
        return torch.cat([part.flatten(1) for part in held], dim=1)

    def prefix_bytes(self, tokens: int) -> int:
        """Return how much memory a prefix of so many tokens takes, about."""
        text = self.model.config.get_text_config()
        heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return int(2 * text.num_hidden_layers * heads * width * tokens * self.dtype.itemsize)

    def continued_logits(
        self, prefixes: torch.Tensor, suffix: Sequence[int], *, size: tuple[int, int], state: str = ""
    ) -> torch.Tensor:
        """Return the logits [N, V] of the next token after prefixes [N, numbers] that a text goes on from."""
        shared = self._prefixes[size, state]
        cache = copy.copy(shared.cache)
        cache.layers = [copy.copy(layer) for layer in shared.cache.layers]
        parts = iter(prefixes.split([shape.numel() for shape in shared.shapes], dim=1))
        shapes = iter(shared.shapes)
        for layer in cache.layers:
            layer.keys = next(parts).unflatten(1, next(shapes))
            layer.values = next(parts).unflatten(1, next(shapes))
        if shared.rope_deltas is not None:
            self._base.rope_deltas = shared.rope_deltas.expand(len(prefixes), -1)
        ids = torch.tensor(suffix, device=self.device).expand(len(prefixes), -1)
        output = self._run(ids, use_cache=True, logits_to_keep=1, **{self._cache_name: cache})
        self._forget_positions()
        return output.logits[:, -1]

    @torch.no_grad()
    def shares_prefixes(self, features: torch.Tensor, *, state: str = "") -> bool:
        """Tell whether going on from a prefix gives what the whole prompt gives, by trying two prompts on a frame.

        The model runs for that when it is first asked, on a frame that it has to see anyway; see `docs/models.md`.

        Not so where a template puts the question before the picture, where a picture attends to what comes after it,
        or where the model keeps more than keys and values.

        Args:
            features: of one frame, [1, parts, 1 + P, E].
        """
        if self._is_whole:
            return False
        if state not in self._shares:
            try:
                problem = self._difference(features, state)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # noqa: BLE001  # models of any kind are tried, and whatever fails is not shared
                problem = first_line(error) or type(error).__name__
            self._shares[state] = not problem
            if problem:
                self._say(problem)
        return self._shares[state]

    def _say(self, problem: str) -> None:
        logger.warning("%s: prefixes of frames are not shared between questions (%s); slower", self.name, problem)

    def _known_problem(self) -> str:
        """Return what keeps prefixes from being shared as far as it is known without running the model."""
        if len({tuple(self.split(self.ids([IMAGE, text], _SMALL))[0]) for text in _TRIED}) > 1:
            return "the question comes before the picture"
        try:
            cache = DynamicCache(config=self.model.config.get_text_config(decoder=True))
        except (AttributeError, LookupError, TypeError, ValueError):
            return ""  # what the model keeps shows when it runs
        return _odd_layers(cache)

    def _difference(self, features: torch.Tensor, state: str) -> str:
        """Return what keeps prefixes from being shared, or an empty text."""
        size = self.size_of(features)
        prompts = [self.ids([IMAGE, text], size) for text in _TRIED]
        heads, tails = zip(*map(self.split, prompts), strict=True)
        with widened(self.model) as is_wide:
            seen = features.to(at_least_fp32(features.dtype)) if is_wide else features
            kept = self.prefix(seen, heads[0], state=state)
            whole = torch.cat([self.logits([one], seen) for one in prompts])
            shared = torch.cat([self.continued_logits(kept, one, size=size, state=state) for one in tails])
        self.prefix(features, heads[0], state=state)  # what is noted of a prefix is of the model's own precision
        exact = at_least_fp32(whole.dtype)
        error = float((whole.to(exact) - shared.to(exact)).abs().max() / whole.to(exact).std())
        return "" if error <= _EXACT[whole.element_size()] else f"logits differ by {error:.1e} of their spread"


def set_frame_tokens(processor: Any, tokens: int | None, *, name: str) -> None:
    """Let a processor make at most so many tokens of a picture; None is `FRAME_TOKENS`, where it can be told.

    Raises:
        ConfigError: the model reads the same number of tokens of every picture.
    """
    pictures = processor.image_processor
    if not has_free_sizes(processor):
        if tokens is not None:
            raise ConfigError(f"{name} reads the same number of tokens of every frame; leave frame_tokens out")
        return
    size = pictures.size
    # The edges are areas here: numbers of pixels.
    longest = (tokens or FRAME_TOKENS) * (pictures.patch_size * pictures.merge_size) ** 2
    longest = longest if tokens else min(longest, size["longest_edge"])
    pictures.size = {"shortest_edge": min(size["shortest_edge"], longest), "longest_edge": longest}


def has_free_sizes(processor: Any) -> bool:
    """Tell whether a processor makes more tokens of a larger picture, within bounds of its area."""
    pictures = processor.image_processor
    return hasattr(pictures, "merge_size") and "longest_edge" in (getattr(pictures, "size", None) or {})


def log_sums(logits: torch.Tensor, groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the logits [R, G] of groups of tokens: their probabilities summed, from logits [R, V]."""
    exact = logits.to(at_least_fp32(logits.dtype))
    return torch.stack([exact[:, ids].logsumexp(-1) for ids in groups], dim=-1)


def _in_one_piece(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Let the vocabulary's matrix be multiplied once with the last states of all prompts.

    They are a slice [R, 1, E] of all states. Torch multiplies each row of such a slice with a matrix of its own, which
    on a CPU in bf16 is a copy of the whole matrix for each (torch 2.13).
    """
    return tuple(one.contiguous() for one in inputs)


def _rows(part: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Return features as [N, P, E], however a family puts them; pictures of fewer tokens have zeros at the end."""
    parts = part if isinstance(part, (list, tuple)) else [part]
    rows = torch.cat([one.reshape(-1, one.shape[-1]) for one in parts])
    return pad_sequence(list(rows.split(list(tokens))), batch_first=True)


def _odd_layers(cache: Any) -> str:
    """Say which layers of a cache keep something else than keys and values; an empty text where none does."""
    odd = {type(one).__name__ for one in cache.layers if type(one) not in _LAYERS}
    return f"the model keeps {', '.join(sorted(odd))}" if odd else ""


def _emptied(cache: Any) -> Any:
    """Return a cache of the same kind and lengths that holds no keys and values."""
    empty = copy.copy(cache)
    empty.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in empty.layers:
        layer.keys = layer.values = None
    return empty
