"""The miniature's decoder-only model, from nothing: an Idefics3 of about two million parameters, in three parts.

Vision tower and language model learn apart, as in `base`: the tower from dense labels of what is where, the language
model to read prompts with words in place of frames. Then the connector learns to say words, and both it and the
language model learn from real pictures. All text is learned as the next token after the chat template's prompts.

What is taught: captions, whether a plain sentence is true of a frame, open and multiple-choice questions over one to
eight frames of which at least one holds the fact. Hints (`Reading`) say which frames hold it, to an attention head of
the language model. No prompt of the Localizer is used here, nor "yes" or "no" to whether a frame helps: that is for
the stages.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import nn
from torch.nn import functional

from lavis.common.types import Question
from lavis.models.hf.backbone import IMAGE, Backbone, Content
from lavis.models.hf.model import labelled
from lavis.processors.chat_prompts import MomentChat, MultipleChoiceChat
from lavis.processors.prompts import OPTION_LETTERS
from lavis.processors.transforms import CLIP_MEAN, CLIP_STD
from sevila_data.miniature.base_frames import Pictures, read_pictures
from sevila_data.miniature.base_language import warm_cosine
from sevila_data.miniature.base_vision import DenseHeads, train_vision, waves
from sevila_data.miniature.questions import MOMENT_TEMPLATES, NUM_OPTIONS, TOPICS, ask, describe, in_place
from sevila_data.miniature.render import SIDE
from sevila_data.miniature.word_tasks import SCENE_S
from sevila_data.miniature.world import MAX_SCENES, MIN_SCENES, VALUES, Scene, draw_scenes

logger = logging.getLogger(__name__)

_PATCH = 8
_VISION = {"hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 3, "num_attention_heads": 4}
_TEXT = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 5, "num_attention_heads": 4}
_INIT_STD = 0.02
_PICTURE_TOKENS = ("<fake_token_around_image>", "<image>", "<global-img>", "<end_of_utterance>")
_CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_PROMPT, _MOMENT = MultipleChoiceChat(), MomentChat()
_CAPTION = "Describe what is shown."
_LONGEST_S = 45.0
_OPEN = 0.3  # of questions about one frame, the share without options
_EVERY = 3  # of the base videos' frames; neighbours look alike
_RIDGE = 1e-6


# -- the model --------------------------------------------------------------------------------------------------------


def make_tokenizer() -> Any:
    """Make a byte-level tokenizer that spells everything, and whole words of the miniature's world and prompts."""
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    words = " ".join([*_sentences(), *(word for values in VALUES.values() for word in values)])
    texts = [f"{words} {words.lower()} yes no Yes No", *(f" {number} {number}" for number in range(100))]
    texts += [f" {letter}\n{letter}" for letter in OPTION_LETTERS]
    trainer = BpeTrainer(
        vocab_size=4000,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        special_tokens=["<pad>"],
    )
    backend.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end_of_utterance>")
    made.add_tokens([*_PICTURE_TOKENS, "<|user|>", "<|assistant|>"], special_tokens=True)
    return made


def _sentences() -> list[str]:
    """Return sentences that hold all words of prompts, captions and statements."""
    scene = draw_scenes(np.random.default_rng(0), [1.0])[0]
    questions = [ask(scene, [], key=key, asked=asked, rng=np.random.default_rng(0)) for key, asked in TOPICS]
    made = [_CAPTION, _PROMPT.frame_label(1.0), _PROMPT.answerer(Question("What?")), in_place("beach"), "stays still"]
    made += [text for one in questions for text in (_PROMPT.localizer(one), _PROMPT.answerer(one))]
    made += [_MOMENT.localizer(Question(describe(scene, number))) for number in range(len(MOMENT_TEMPLATES))]
    return [*made, *(wording.format(**_words(scene)) for _, wording in _STATEMENTS)]


def make_model(*, seed: int) -> tuple[Any, Any]:
    """Make the model with the weights that it learns from, and its processor: one image token for each picture."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    tokenizer, longest = make_tokenizer(), {"longest_edge": SIDE}
    pictures = Idefics3ImageProcessor(
        size=longest, max_image_size=longest, do_image_splitting=False, image_mean=CLIP_MEAN, image_std=CLIP_STD
    )
    processor = Idefics3Processor(pictures, tokenizer, image_seq_len=1, chat_template=_CHAT)
    special: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id}
    config = Idefics3Config(
        vision_config={**_VISION, "image_size": SIDE, "patch_size": _PATCH},
        text_config={
            "model_type": "llama",
            **_TEXT,
            "num_key_value_heads": _TEXT["num_attention_heads"],
            "attention_bias": True,
            "vocab_size": len(tokenizer),
            **special,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "max_position_embeddings": 1024,
            # Most of what a head compares is then the same at any distance, so equal words are found at once.
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "tie_word_embeddings": True,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=SIDE // _PATCH,
        tie_word_embeddings=True,
        **special,
    )
    torch.manual_seed(seed)
    model = Idefics3ForConditionalGeneration(config)
    model.set_attn_implementation("eager")
    _initialise(model)
    return model, processor


@torch.no_grad()
def _initialise(model: Any) -> None:
    """Let attention start with what looks alike: queries and keys are equal."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=_INIT_STD)
    for layer in [*model.model.text_model.layers, *model.model.vision_model.encoder.layers]:
        attention = layer.self_attn
        attention.q_proj.weight.mul_(2)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
    positions = model.model.vision_model.embeddings.position_embedding.weight
    positions.copy_(0.15 * waves(SIDE // _PATCH, positions.shape[1]))


# -- what is taught ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """One prompt about frames of a video, and what to write.

    Attributes:
        content: text, and a picture for each frame.
        scenes: of the video.
        shown: for each frame the scene that it shows.
        video: index of the video, where the scenes are of one.
        kind: for the log.
        answer: index of the right option, where options are chosen from.
        about: the scene that is asked about, as an index.
        named: what a question names that scene by; empty where nothing is asked.
        asked: the attribute that is asked for.
    """

    content: Content
    scenes: Sequence[Scene]
    shown: tuple[int, ...]
    target: str
    video: int
    kind: str
    answer: int | None = None
    about: int = 0
    named: str = ""
    asked: str = ""


Drawn = Callable[[np.random.Generator], tuple[Sequence[Scene], int]]
"""Draws a video: its scenes, and which of the known videos it is."""

_STATEMENTS = (
    (("shape",), "Is a {shape} shown?"),
    (("colour",), "Is something {colour}?"),
    (("place",), "Is something {where}?"),
    (("colour", "shape"), "Is a {colour} {shape} shown?"),
    (("shape", "motion"), "Is it a {shape} that {moves}?"),
    (("shape", "place"), "Is it a {shape} {where}?"),
)
"""Plain sentences about one frame, and the attributes they speak of; no prompt of the Localizer is worded so."""


def drawn_scenes(rng: np.random.Generator) -> tuple[Sequence[Scene], int]:
    """Draw a video that was never rendered."""
    count = int(rng.integers(MIN_SCENES, MAX_SCENES + 1))
    return draw_scenes(rng, [SCENE_S * (number + 1) for number in range(count)]), 0


def choose_option(rng: np.random.Generator, draw: Drawn, *, num_frames: int) -> Exercise:
    """Ask for the option that one or more of the frames show."""
    scenes, video = draw(rng)
    about, *others = rng.permutation(len(scenes)).tolist()
    key, asked = TOPICS[int(rng.integers(len(TOPICS)))]
    question = ask(scenes[about], [scenes[other] for other in others], key=key, asked=asked, rng=rng)
    shown = rng.choice(len(scenes), size=num_frames) if rng.random() < 0.5 else rng.permutation(others)[:num_frames]
    shown[rng.integers(len(shown))] = about
    if rng.random() < 0.5:
        shown.sort()
    answer = question.answer or 0
    facts = {"about": about, "named": scenes[about].value(key), "asked": asked}
    if num_frames == 1 and rng.random() < _OPEN:
        text = _PROMPT.answerer(Question(question.text))
        said = f" {question.options[answer]}"
        return Exercise([IMAGE, text], scenes, (about,), said, video, "open", **facts)
    text = _PROMPT.answerer(question)
    content: Content = [IMAGE, text]
    if num_frames > 1 or rng.random() < 0.5:
        content = labelled(text, np.sort(rng.uniform(0, _LONGEST_S, len(shown))).tolist(), _PROMPT)
    kind, letter = f"{min(num_frames, len(shown))} frames", OPTION_LETTERS[answer]
    return Exercise(content, scenes, tuple(shown.tolist()), letter, video, kind, answer=answer, **facts)


def judge_statement(rng: np.random.Generator, draw: Drawn) -> Exercise:
    """Ask whether a plain sentence is true of one frame; wrong ones often share a part with it."""
    scenes, video = draw(rng)
    about, other = rng.permutation(len(scenes))[:2].tolist()
    speaks_of, wording = _STATEMENTS[int(rng.integers(len(_STATEMENTS)))]
    words = _words(scenes[about])
    if rng.random() < 0.5:
        wrong = _words(scenes[other])
        mixed = rng.random() < 0.5
        changed = [str(rng.choice(speaks_of))] if mixed else speaks_of
        words |= {name: wrong[name] for part in changed for name in (_WORD_OF.get(part, part),)}
    truth = wording.format(**words) == wording.format(**_words(scenes[about]))
    text = f"{wording.format(**words)} Answer with yes or no only."
    return Exercise([IMAGE, text], scenes, (about,), " yes" if truth else " no", video, "judged")


def caption(rng: np.random.Generator, draw: Drawn) -> Exercise:
    """Ask what a frame shows."""
    scenes, video = draw(rng)
    about = int(rng.integers(len(scenes)))
    words = _words(scenes[about])
    said = " A {colour} {shape} {where} {moves}".format(**words)
    return Exercise([IMAGE, _CAPTION], scenes, (about,), said, video, "caption")


_WORD_OF = {"place": "where", "motion": "moves"}


def _words(scene: Scene) -> dict[str, str]:
    moves = "stays still" if scene.motion == "still" else f"moves {scene.motion}"
    return {"shape": scene.shape, "colour": scene.colour, "where": in_place(scene.place), "moves": moves}


# Of 16 exercises in a row, once single frames are read: how many frames, or what else.
_ROUND: tuple[int | str, ...] = (1, 2, "judge", 4, 1, 2, 4, "caption", 4, 2, "judge", 4, 1, 8, "judge", 4)


def draw_exercises(rng: np.random.Generator, draw: Drawn, *, count: int, only_one: bool) -> list[Exercise]:
    """Draw exercises, at first about single frames only."""
    made = []
    for number in rng.permutation(count).tolist():
        kind = _ROUND[number % len(_ROUND)]
        if kind == "judge":
            made.append(judge_statement(rng, draw))
        elif kind == "caption":
            made.append(caption(rng, draw))
        else:
            made.append(choose_option(rng, draw, num_frames=1 if only_one else int(kind)))
    return made


# -- how it learns ----------------------------------------------------------------------------------------------------


class Reading:
    """Turns exercises into the loss of what the language model writes, and of hints on the way.

    Hints make the plateaus short, and are thrown away. The end of the question is to look at what names the scene,
    then at the frames that show it, and to know the answer's word; the last token is to look at the end of the
    question, then at the right option; options are to know their letters. Where to look, one head of a layer is told.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.network = backbone, backbone.model
        width, tokenizer = self.network.config.text_config.hidden_size, backbone.tokenizer
        self.letter, self.word = nn.Linear(width, NUM_OPTIONS), nn.Linear(width, len(tokenizer))
        self._line = tokenizer.convert_tokens_to_ids("Ċ")
        self._letters = torch.tensor(tokenizer.convert_tokens_to_ids(list(OPTION_LETTERS[:NUM_OPTIONS])))
        self._mark = tokenizer.convert_tokens_to_ids("?")
        self._looks: list[torch.Tensor] = []
        self._states: list[torch.Tensor] = []
        self._hooks = []
        for layer in self.network.model.text_model.layers:
            self._hooks.append(layer.self_attn.register_forward_hook(lambda _m, _i, out: self._looks.append(out[1])))
            self._hooks.append(layer.register_forward_hook(self._keep))

    def _keep(self, _module: nn.Module, _inputs: object, output: Any) -> None:
        self._states.append(output[0] if isinstance(output, tuple) else output)

    def parameters(self) -> list[nn.Parameter]:
        """Return the hints' own weights."""
        return [*self.letter.parameters(), *self.word.parameters()]

    def close(self) -> None:
        """Stop listening to the language model."""
        for hook in self._hooks:
            hook.remove()

    def loss(self, exercises: Sequence[Exercise], frames: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss, and the share of right answers by kind of exercise.

        Args:
            frames: what stands in place of image tokens, for all frames in their order: [N, E].
        """
        self._looks, self._states = [], []
        model, tokenizer = self.network.model, self.backbone.tokenizer
        prompts = [self.backbone.ids(one.content, (SIDE, SIDE)) for one in exercises]
        ends: list[list[int]] = [tokenizer(one.target, add_special_tokens=False)["input_ids"] for one in exercises]
        whole = [[*prompt, *end] for prompt, end in zip(prompts, ends, strict=True)]
        longest = max(map(len, whole))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in whole])
        embeds = model.get_input_embeddings()(ids)
        embeds = embeds.masked_scatter((ids == self.backbone.image_token_id)[..., None], frames.to(embeds.dtype))
        states = model.text_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        starts = torch.tensor([len(prompt) for prompt in prompts])
        at = [(row, len(prompts[row]) + place) for row, end in enumerate(ends) for place in range(len(end))]
        rows, columns = torch.tensor(at).T
        logits = self.network.lm_head(states[rows, columns - 1]).float()
        wanted = ids[rows, columns]
        losses = functional.cross_entropy(logits, wanted, reduction="none")
        first = columns == starts[rows]
        loss = (losses * (0.25 + 0.75 * first)).sum() / len(exercises)
        hits = (logits.argmax(-1) == wanted)[first].float()
        kinds: dict[str, list[float]] = {}
        for one, hit in zip(exercises, hits.tolist(), strict=True):
            kinds.setdefault(one.kind, []).append(hit)
        asked = [row for row, one in enumerate(exercises) if one.named]
        if asked:
            loss = loss + self._hints([exercises[row] for row in asked], ids[asked], starts[asked] - 1, asked)
        return loss, {name: float(np.mean(row)) for name, row in sorted(kinds.items())}

    def _hints(self, exercises: list[Exercise], ids: torch.Tensor, last: torch.Tensor, rows: list[int]) -> torch.Tensor:
        every = torch.arange(len(rows))
        looks = [layer[rows, 0].float() for layer in self._looks]
        mark = (ids == self._mark).int().argmax(1)
        spelt = _value_ids(self.backbone)
        flat = {value: one for values in spelt.values() for value, one in values.items()}
        named = (ids == torch.tensor([flat[one.named] for one in exercises])[:, None]).int().argmax(1)
        pictures = ids == self.backbone.image_token_id
        shows = torch.zeros_like(pictures)
        shows[pictures] = torch.tensor([scene == one.about for one in exercises for scene in one.shown])
        found = (looks[2][every, mark] * shows).sum(1)
        loss = _surprise(looks[1][every, mark, named]) + _surprise(found) + _surprise(looks[3][every, last, mark])
        words = torch.tensor([flat[one.scenes[one.about].value(one.asked)] for one in exercises])
        loss = loss + functional.cross_entropy(self.word(self._states[2][rows, mark].float()), words)
        chosen = [place for place, one in enumerate(exercises) if one.answer is not None]
        if not chosen:
            return loss
        options = ids[chosen]
        begins = ((options[:, :-1] == self._line)[..., None] & (options[:, 1:, None] == self._letters)).any(-1)
        places = (begins.nonzero()[:, 1] + 3).view(len(chosen), NUM_OPTIONS)  # line, letter, full stop, word
        states = self._states[3][torch.tensor(rows)[chosen][:, None], places]
        letters = torch.arange(NUM_OPTIONS).expand(len(chosen), -1)
        loss = loss + functional.cross_entropy(self.letter(states.float()).flatten(0, 1), letters.flatten())
        answers = torch.tensor([exercises[place].answer for place in chosen])
        right = places[torch.arange(len(chosen)), answers]
        return loss + _surprise(looks[4][chosen, last[chosen], right])


def _surprise(share: torch.Tensor) -> torch.Tensor:
    return -share.clamp(min=1e-6).log().mean()


def _learn(
    reading: Reading,
    parameters: list[nn.Parameter],
    frames_of: Callable[[list[Exercise], np.random.Generator], torch.Tensor],
    draw: Drawn,
    *,
    name: str,
    seed: int,
    num_steps: int,
    single_frame_steps: int,
    batch_size: int,
    lr: float,
) -> None:
    rng = np.random.default_rng([seed, 5, len(name)])
    optimizer = torch.optim.AdamW(
        [{"params": parameters}, {"params": reading.parameters()}], lr=lr, weight_decay=0.01, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, num_steps, fall_from=0.5))
    started = time.monotonic()
    for step in range(num_steps):
        exercises = draw_exercises(rng, draw, count=batch_size, only_one=step < single_frame_steps)
        optimizer.zero_grad()
        right: dict[str, float] = {}
        total = 0.0
        for some in _alike(exercises):
            with torch.autocast("cpu", torch.bfloat16):
                loss, found = reading.loss(some, frames_of(some, rng))
            (loss * (len(some) / len(exercises))).backward()
            total += float(loss.detach()) * len(some) / len(exercises)
            right |= found
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 25 == 0 or step == num_steps - 1:
            said = " ".join(f"{kind} {share:.2f}" for kind, share in right.items())
            logger.info("%s %d: loss %.3f, %s (%.0f s)", name, step, total, said, time.monotonic() - started)


def _alike(exercises: list[Exercise]) -> list[list[Exercise]]:
    """Put exercises of about one length together."""
    sizes = [sum(part == IMAGE for part in one.content) for one in exercises]
    ranges = ((1, 1), (2, 2), (3, 99))
    groups = [[one for one, size in zip(exercises, sizes, strict=True) if low <= size <= high] for low, high in ranges]
    return [group for group in groups if group]


def word_frames(backbone: Backbone, exercises: Sequence[Exercise], rng: np.random.Generator) -> torch.Tensor:
    """Return what stands in place of frames: the sum of their words' embeddings, each a little more or less: [N, E]."""
    ids = _value_ids(backbone)
    shown = [one.scenes[index] for one in exercises for index in one.shown]
    words = torch.tensor([[ids[name][scene.value(name)] for name in VALUES] for scene in shown])
    weights = torch.from_numpy(rng.uniform(0.6, 1.4, words.shape)).float()
    return (weights[..., None] * backbone.model.get_input_embeddings()(words)).sum(1)


def _value_ids(backbone: Backbone) -> dict[str, dict[str, int]]:
    ids = {
        value: backbone.tokenizer(f" {value}", add_special_tokens=False)["input_ids"]
        for values in VALUES.values()
        for value in values
    }
    assert all(len(one) == 1 for one in ids.values())
    return {name: {value: ids[value][0] for value in values} for name, values in VALUES.items()}


def learn_language(
    folder: Path, *, seed: int, num_steps: int, single_frame_steps: int = 500, batch_size: int = 32
) -> None:
    """Teach the language model to read prompts, with words in place of frames, and save its weights."""
    model, processor = make_model(seed=seed)
    backbone = Backbone(model, processor, "miniature")
    reading = Reading(backbone)
    _learn(
        reading,
        list(model.model.text_model.parameters()),
        lambda exercises, rng: word_frames(backbone, exercises, rng),
        drawn_scenes,
        name="language",
        seed=seed,
        num_steps=num_steps,
        single_frame_steps=single_frame_steps,
        batch_size=batch_size,
        lr=1.5e-3,
    )
    reading.close()
    _save(model, processor, folder)


class _Tower(nn.Module):
    """The vision tower as `train_vision` knows one: pixels to a token of no use and patches, [N, 1 + P, D]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision, self.width = model.vision_model, model.config.vision_config.hidden_size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of pixels [N, 3, H, W]."""
        patches = self.vision(pixels).last_hidden_state
        return torch.cat([torch.zeros_like(patches[:, :1]), patches], dim=1)


class _Connector(nn.Module):
    """The connector as `train_vision` knows a prompter: features to image tokens."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.connector = model.connector

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the image tokens of features [N, 1 + P, D]."""
        made: torch.Tensor = self.connector(features[:, 1:])
        return made


def learn_vision(folder: Path, data: Path, *, seed: int, num_videos: int, num_steps: int) -> None:
    """Train vision tower and connector on the base videos' frames, with the dense labels of `base_vision`."""
    model, processor = make_model(seed=seed)
    pictures, videos = read_pictures(data, count=num_videos, seed=seed, every=_EVERY)
    logger.info("%d frames of %d videos", len(pictures), len(videos))
    tower, connector = _Tower(model.model), _Connector(model.model)
    heads = DenseHeads(vision_width=tower.width, language_width=_TEXT["hidden_size"], patch_size=_PATCH)
    train_vision(tower, connector, pictures, heads=heads, seed=seed, num_steps=num_steps)  # type: ignore[arg-type]
    _save(model, processor, folder)


def join(
    folder: Path,
    data: Path,
    language: Path,
    vision: Path,
    *,
    seed: int,
    num_videos: int,
    num_steps: int,
    batch_size: int = 32,
) -> None:
    """Join language model and vision tower, and teach the language model and the connector with real pictures."""
    model, processor = make_model(seed=seed)
    model.load_state_dict(_weights(vision), strict=False)
    model.model.text_model.load_state_dict(_text_of(_weights(language)))
    backbone = Backbone(model, processor, "miniature")
    pictures, videos = read_pictures(data, count=num_videos, seed=seed, every=_EVERY)
    features = _features(model, pictures)
    logger.info("connector: %.2f of the words' variance is left", _say_words(backbone, features, pictures))
    rows_of: dict[tuple[int, int], list[int]] = {}
    for row, (video, scene) in enumerate(pictures.scenes.tolist()):
        rows_of.setdefault((video, scene), []).append(row)

    def draw(rng: np.random.Generator) -> tuple[Sequence[Scene], int]:
        number = int(rng.integers(len(videos)))
        return videos[number].scenes, number

    def frames_of(exercises: list[Exercise], rng: np.random.Generator) -> torch.Tensor:
        rows = [int(rng.choice(rows_of[one.video, scene])) for one in exercises for scene in one.shown]
        made: torch.Tensor = model.model.connector(features[rows].float())[:, 0]
        return made

    reading = Reading(backbone)
    _learn(
        reading,
        [*model.model.text_model.parameters(), *model.model.connector.parameters()],
        frames_of,
        draw,
        name="joined",
        seed=seed,
        num_steps=num_steps,
        single_frame_steps=0,
        batch_size=batch_size,
        lr=1e-3,
    )
    reading.close()
    _save(model, processor, folder)


@torch.no_grad()
def _features(model: Any, pictures: Pictures, *, chunk: int = 128) -> torch.Tensor:
    """Run the vision tower once over all frames: bf16 [N, P, D]."""
    rows = torch.arange(len(pictures)).split(chunk)
    with torch.autocast("cpu", torch.bfloat16):
        made = [model.model.vision_model(pictures.rows(row).normalised()).last_hidden_state for row in rows]
    return torch.cat([part.to(torch.bfloat16) for part in made])


@torch.no_grad()
def _say_words(backbone: Backbone, features: torch.Tensor, pictures: Pictures) -> float:
    """Fit the connector so that a picture's token is the sum of its words; return the share of variance left."""
    projection = backbone.model.model.connector.modality_projection.proj
    ids = _value_ids(backbone)
    words = backbone.model.get_input_embeddings().weight
    expected = torch.stack(
        [
            words[torch.tensor(list(ids[name].values()))][column]
            for name, column in zip(VALUES, pictures.values.T, strict=True)
        ]
    ).sum(0)
    connector = backbone.model.model.connector
    tokens = torch.cat([connector(part.float())[:, 0] for part in features.split(256)])
    ridge = _RIDGE * tokens.square().sum() * torch.eye(tokens.shape[1])
    solved = torch.linalg.solve(tokens.T @ tokens + ridge, tokens.T @ expected)
    projection.weight.copy_(solved.T @ projection.weight)
    left = expected - tokens @ solved
    return float(left.square().sum() / (expected - expected.mean(0)).square().sum())


def _save(model: Any, processor: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _text_of(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    prefix = "model.text_model."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
