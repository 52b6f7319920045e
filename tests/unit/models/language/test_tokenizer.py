from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lavis.common.errors import CheckpointError
from lavis.models.language.t5 import T5LanguageModel
from lavis.models.language.tokenizer import load_tokenizer, single_token_id
from lavis.models.sevila.model import SeViLA
from tests.unit.models.tiny import CONFIG

WORDS = ["<pad>", "</s>", "<unk>", "yes", "no", "y", "es", "A", "B", "C"]


def tokenizer_of(*, splitting: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of a few words, that takes some of them for two."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(*pair) for pair in (splitting or {}).items()])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )


def language_of(tokenizer: PreTrainedTokenizerFast) -> T5LanguageModel:
    return SeViLA.from_config(CONFIG, tokenizer=tokenizer).language


def test_ids_come_from_the_tokenizer() -> None:
    language = language_of(tokenizer_of())
    assert (language.yes_id, language.no_id, language.option_ids(3)) == (3, 4, [7, 8, 9])


@pytest.mark.parametrize("word", ["yes", "no"])
def test_a_tokenizer_that_splits_a_verdict_is_refused(word: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^'{word}' is 2 tokens for this tokenizer, not one; use other options"):
        language_of(tokenizer_of(splitting={word: "y es"}))


def test_a_tokenizer_that_splits_a_letter_is_refused_from_that_letter_on() -> None:
    language = language_of(tokenizer_of(splitting={"C": "A B"}))
    assert language.option_ids(2) == [7, 8]
    with pytest.raises(CheckpointError, match=r"^'C' is 2 tokens for this tokenizer, not one; use other options or"):
        language.option_ids(3)


def test_a_letter_that_the_tokenizer_does_not_know_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"^'D' is unknown to this tokenizer; use other options or weights$"):
        language_of(tokenizer_of()).option_ids(4)


def test_a_word_of_no_tokens_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"^' ' is 0 tokens for this tokenizer, not one; use other options or"):
        single_token_id(tokenizer_of(), " ")


def test_a_folder_without_a_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^no tokenizer at [^\n]*; give a folder with tokenizer.json$"):
        load_tokenizer(tmp_path)
