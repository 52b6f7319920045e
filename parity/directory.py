"""A directory of golden figures: sizes, weights, tokenizer, cases with their inputs, questions and figures."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lavis.common.errors import CheckpointError
from lavis.common.types import Question, Span
from lavis.models.language.tokenizer import load_tokenizer
from lavis.models.precision import at_least_fp32
from lavis.models.sevila.config import LanguageConfig, SeViLAConfig, VisionConfig
from lavis.models.sevila.known_files import check_aliases, identify
from lavis.models.sevila.loading import load_weights
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.names import EMBEDDING
from lavis.processors.prompts import OPTION_LETTERS
from parity.checks import FLOAT32, FLOAT64, Precision

_T5_SIZES = (
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_decoder_layers",
    "num_heads",
    "vocab_size",
    "feed_forward_proj",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "layer_norm_epsilon",
    "dropout_rate",
    "pad_token_id",
    "eos_token_id",
)


class GoldenDirectory:
    """Reads a directory lazily.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights do not fit the sizes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Sizes, token ids and epsilons."""
        return self.read_json("config.json")

    @cached_property
    def cases(self) -> list[dict[str, Any]]:
        """Inputs and figures of each case."""
        return self.read_json("cases.json")

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        """All weights in the published names."""
        return self._read_tensors("state_dict.safetensors")

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        """Tensor figures, as "<case>/<what>"."""
        return self._read_tensors("tensors.safetensors")

    @cached_property
    def videos(self) -> dict[str, torch.Tensor]:
        """Preprocessed pixels [B, T, 3, H, W] by name."""
        videos = self._read_tensors("videos.safetensors")
        return {name: video.to(at_least_fp32(video.dtype)) for name, video in videos.items()}

    @cached_property
    def precision(self) -> Precision:
        """What figures that no case declares the precision of, those of loops, were measured in."""
        is_float64 = any(case.get("t5_dtype") == "fp64" for case in self.cases)
        return FLOAT64 if is_float64 else FLOAT32

    def read_json(self, name: str) -> Any:
        """Read one of the directory's JSON files."""
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise CheckpointError(f"{file}: {error.strerror}; a directory of golden figures needs it") from error
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{file} is damaged: {error}") from error

    def _read_tensors(self, name: str) -> dict[str, torch.Tensor]:
        file = self.path / name
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file}: {' '.join(str(error).split())}") from error

    def build(self, *, dtype: torch.dtype = torch.float64, disturbance: float = 0.0) -> SeViLA:
        """Build the model of these sizes with these weights.

        Args:
            dtype: of the whole model; half precision is the language model's alone, as published.
            disturbance: of each weight, relative to it: a standard deviation.
        """
        model = SeViLA.from_config(self._model_config(), tokenizer=load_tokenizer(self.path / "tokenizer"))
        file = self.path / "state_dict.safetensors"
        source = identify(self.weights, path=file)
        check_aliases(source, source.weights.get(EMBEDDING))
        load_weights(model, {name: tensor.clone() for name, tensor in source.weights.items()}, place=str(file))
        model.to(at_least_fp32(dtype))
        model.language.to(dtype)
        if disturbance:
            generator = torch.Generator().manual_seed(0)
            for weight in model.parameters():
                noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                weight.data *= 1 + disturbance * noise
        return model.eval()

    def _model_config(self) -> SeViLAConfig:
        sizes: Mapping[str, Any] = self.config["sizes"]
        vit, bert, t5 = sizes["vit"], sizes["bert"], self.config["t5"]
        return SeViLAConfig(
            name=f"golden figures in {self.path.name}",
            vision=VisionConfig(
                image_size=sizes["img_size"],
                args={
                    "patch_size": vit["patch_size"],
                    "width": vit["embed_dim"],
                    "depth": vit["depth"],
                    "num_heads": vit["num_heads"],
                    "intermediate_size": self.config["mlp_hidden"],
                },
            ),
            prompter={
                "num_queries": sizes["num_query_token"],
                "width": bert["hidden_size"],
                "depth": bert["num_hidden_layers"],
                "num_heads": bert["num_attention_heads"],
                "intermediate_size": bert["intermediate_size"],
                "cross_attention_frequency": self.config["bert_full"]["cross_attention_freq"],
            },
            language=LanguageConfig(
                sizes={key: t5[key] for key in _T5_SIZES if key in t5}
                | {"dense_act_fn": self.config["t5_dense_act_fn"]},
                max_text_length=self.config["max_txt_len"],
            ),
        )


class Case:
    """One case; remembers which of its figures were asked for, so that none is passed over."""

    # What describes the case or repeats its inputs, and is no figure.
    _NO_FIGURES = frozenset(
        {
            "name", "kind", "method", "mode", "task", "video", "inputs",
            "t5_dtype", "generate_kwargs", "frame_num", "answer_num",
        }
    )  # fmt: skip

    def __init__(self, content: dict[str, Any], directory: GoldenDirectory) -> None:
        self._content = content
        self._directory = directory
        self._prefix = f"{content['name']}/"
        self._used: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def __getitem__(self, key: str) -> Any:
        self._used.add(key)
        return self._content[key]

    def get(self, key: str) -> Any:
        """Return a figure or None."""
        self._used.add(key)
        return self._content.get(key)

    def tensor(self, what: str) -> torch.Tensor | None:
        """Return a tensor figure of this case, or None if none is stored."""
        self._used.add(self._prefix + what)
        return self._directory.tensors.get(self._prefix + what)

    def unused(self) -> list[str]:
        """Return the names of figures nobody has asked for."""
        keys = [key for key in self._content if key not in self._used | self._NO_FIGURES]
        tensors = [name for name in self._directory.tensors if name.startswith(self._prefix) and name not in self._used]
        return sorted(keys) + sorted(tensors)

    @property
    def pixels(self) -> torch.Tensor:
        """Preprocessed pixels [B, T, 3, H, W]."""
        name = self["video"]
        if name not in self._directory.videos:
            raise CheckpointError(f"{self['name']}: there is no video {name!r} in videos.safetensors")
        return self._directory.videos[name]


class GivenPrompt:
    """A prompt that asks in the case's own words, given as text; a question's id is its row."""

    def __init__(self, *, localizer: list[str], answerer: list[str]) -> None:
        self._localizer = localizer
        self._answerer = answerer

    def localizer(self, question: Question) -> str:
        """Return the row's text for the Localizer."""
        return self._localizer[int(question.id)]

    def answerer(self, question: Question) -> str:
        """Return the row's text for the Answerer."""
        return self._answerer[int(question.id)]


def given_prompt(case: Case) -> GivenPrompt:
    """Return the texts of a case."""
    inputs = case["inputs"]
    return GivenPrompt(localizer=inputs["loc_input"], answerer=inputs["qa_input"])


def choice_questions(case: Case) -> list[Question]:
    """Return questions with as many options as the case has, and the right one from "Option X"."""
    options = tuple(OPTION_LETTERS[: case["answer_num"]])
    return [
        Question(text="given", options=options, id=str(row), answer=OPTION_LETTERS.index(target.split()[-1]))
        for row, target in enumerate(case["inputs"]["qa_output"])
    ]


def moment_questions(targets: list[str]) -> list[Question]:
    """Return queries whose windows hold just the "yes" frames of texts such as "yes_no_no", at 1 frame a second."""
    return [
        Question(
            text="given",
            id=str(row),
            windows=tuple(Span(i, i) for i, word in enumerate(target.split("_")) if word == "yes"),
        )
        for row, target in enumerate(targets)
    ]
