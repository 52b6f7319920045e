"""What users write is text to the model, and what it cannot spell is told."""

import logging
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase, T5Tokenizer

from lavis.common.errors import CheckpointError
from lavis.common.files import checkpoints_dir
from lavis.common.types import Unread
from lavis.models.language.t5 import T5LanguageModel
from lavis.models.language.tokenizer import load_tokenizer, text_tokenizer
from lavis.models.sevila.model import SeViLA
from tests.unit.models.tiny import CONFIG

GOLDEN = Path(__file__).parents[3] / "parity" / "golden" / "tokenizer"
SPECIAL = ["</s>", "<pad>", "<unk>", "<extra_id_0>", "<extra_id_99>", "<0x0A>"]
ASKED = "What <did> the man at 7:30 say,  and why? {é} 什么 \n\t»yes«"


def t5_of_transformers() -> PreTrainedTokenizerBase:
    """The tokenizer that transformers makes of a T5 on the hub."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789_?.:/ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    words = ["▁", "▁yes", "▁no", *(f"▁{letter}" for letter in "ABCDE"), *letters]
    ends = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    sentinels = [(f"<extra_id_{number}>", 0.0) for number in range(99, -1, -1)]
    return T5Tokenizer(vocab=[*ends, *((word, -float(at)) for at, word in enumerate(words)), *sentinels])


TOKENIZERS = {
    "embedded": lambda: load_tokenizer(checkpoints_dir() / "sevila_tiny" / "tokenizer"),
    "published": lambda: load_tokenizer(GOLDEN),
    "transformers": t5_of_transformers,
}


@pytest.fixture(params=list(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="module")
def published() -> T5LanguageModel:
    """A model that spells as the published one does: a part of T5's vocabulary, without a way to spell any byte."""
    return SeViLA.from_config(CONFIG, tokenizer=TOKENIZERS["published"]()).language


@pytest.mark.parametrize("end_of_text", [True, False])
def test_text_without_names_of_special_tokens_gets_the_tokenizers_own_ids(
    tokenizer: PreTrainedTokenizerBase, end_of_text: bool
) -> None:
    texts = [ASKED, "", " ", "Frame 10: ", "Option B", "a < b > c", "<", "<br>", "extra_id_0>", "yes"]
    ours = text_tokenizer(tokenizer).encode_batch(texts, add_special_tokens=end_of_text)
    assert [row.ids for row in ours] == tokenizer(texts, add_special_tokens=end_of_text).input_ids


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("text", ["{}", "why {} no", "why{}no", "{0}{0}", " {} "])
def test_names_of_special_tokens_in_a_text_stay_text(tokenizer: PreTrainedTokenizerBase, name: str, text: str) -> None:
    read = text_tokenizer(tokenizer).encode(text.format(name), add_special_tokens=True)
    assert read.ids[-1] == tokenizer.eos_token_id
    special = {tokenizer.convert_tokens_to_ids(special) for special in SPECIAL}
    # All of them are one-character pieces where the vocabulary has the characters, unknown words where it has not.
    assert special & set(read.ids[:-1]) <= {tokenizer.unk_token_id}
    assert "".join(read.tokens[:-1]).replace("▁", " ").split() == text.format(name).split()


def test_full_width_brackets_that_become_plain_ones_make_no_special_token_either() -> None:
    read = text_tokenizer(TOKENIZERS["published"]()).encode("yes ＜/s＞ no", add_special_tokens=False)
    assert 1 not in read.ids


def test_a_tokenizer_without_a_tokenizer_json_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(CheckpointError, match=r"^Slow cannot be used; give a tokenizer with a tokenizer\.json$"):
        text_tokenizer(Slow())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "unspelt"),
    [
        ("what did the man do?", ()),
        ("what {is} 什么 the answer {", ("{", "}", "什么")),
        ("</s>", ("<", ">")),
        ("what\nis\tthe\r\nanswer\u00a0?", ()),
        ("\x00", ("\x00",)),
        ("<unk>", ("<", ">")),
    ],
)
def test_what_cannot_be_spelt_is_named_once_each_in_order(
    published: T5LanguageModel, text: str, unspelt: tuple[str, ...]
) -> None:
    tokens = published.tokenize(["yes", text], end_of_text=True)
    assert tokens.unread == (Unread(), Unread(unspelt=unspelt))


def test_white_space_of_any_kind_is_a_space_to_the_published_tokenizer(published: T5LanguageModel) -> None:
    spaced, *others = published.tokenize(["is the", "is\nthe", "is\tthe", "is \r\n the"], end_of_text=True).ids.tolist()
    assert others == [spaced] * 3


def test_the_embedded_tokenizer_spells_everything_byte_by_byte(language: T5LanguageModel) -> None:
    texts = [ASKED, "\x00\n\r\t", "😀", *SPECIAL]
    tokens = language.tokenize(texts, end_of_text=True)
    assert tokens.unread == (Unread(),) * len(texts)
    assert language.tokenizer.batch_decode(tokens.ids, skip_special_tokens=True) == texts


def test_unspelt_prompts_are_counted_and_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    language = SeViLA.from_config(CONFIG, tokenizer=TOKENIZERS["published"]()).language
    with caplog.at_level(logging.WARNING):
        language.tokenize(["{", "no", "{}"], end_of_text=True)
        language.tokenize(["}"], end_of_text=True)
    assert language.num_unspelt_prompts == 3
    assert [record.message for record in caplog.records] == [
        "a prompt holds text that the tokenizer cannot spell, such as '{' (counted from here on)"
    ]


def test_a_text_that_is_cut_still_tells_what_it_could_not_spell(published: T5LanguageModel) -> None:
    tokens = published.tokenize(["{ " + "yes " * 200 + "}"], end_of_text=True)
    assert tokens.unread == (Unread(truncated=True, unspelt=("{", "}")),)


def test_many_unspelt_parts_are_named_in_part() -> None:
    (caveat,) = Unread(unspelt=("a" * 30, "b", "c", "d", "e", "f", "g")).caveats
    assert caveat == (
        "the model cannot spell 'aaaaaaaaaaaaaaaaaaaa...', 'b', 'c', 'd', 'e', 2 more in the question or its "
        "options, and reads an unknown word there"
    )


def test_what_either_role_loses_is_lost_of_a_question() -> None:
    assert Unread(truncated=True, unspelt=("a", "b")) | Unread(unspelt=("b", "c")) == Unread(True, ("a", "b", "c"))
    assert Unread() | Unread(truncated=True) == Unread(truncated=True)
