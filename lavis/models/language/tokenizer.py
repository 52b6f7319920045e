"""Loading a tokenizer exactly as its `tokenizer.json` defines it."""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import PreTokenizer, Sequence, Split
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

from lavis.common.errors import CheckpointError
from lavis.common.files import read_json
from lavis.models.language.tokenizer_steps import check_tokenizer

TOKENIZER_FILE = "tokenizer.json"
# mT5's, the largest known, has 16 million.
_MAX_BYTES = 64_000_000

# T5's sentinels and the bytes of other vocabularies, which not every tokenizer marks as special.
_OTHER_SPECIAL_NAMES = (r"extra_id_\d+>", "0x[0-9A-F]{2}>")


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder with `tokenizer.json`, or by its name on the hub.

    transformers 5 rebuilds T5 tokenizers from their vocabulary and drops a trailing "▁" token that
    the published prompts rely on ("Frame: "), so `tokenizer.json` is used as it stands. No other file is read: those
    could name code to be run.

    Raises:
        CheckpointError: there is no tokenizer at `source`, or it is damaged or does what no T5 tokenizer needs.
    """
    try:
        # A path is never taken for a name on the hub.
        file = source / TOKENIZER_FILE if isinstance(source, Path) else cached_file(source, TOKENIZER_FILE)
        steps = read_json(str(file), max_bytes=_MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"no tokenizer at {source}: {reason}; give a folder with tokenizer.json") from error
    check_tokenizer(steps, place=str(file))
    with rust_errors(f"{file} is damaged"):
        backend = Tokenizer.from_file(str(file))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )


@contextmanager
def rust_errors(problem: str) -> Iterator[None]:
    """Turn what the tokenizers library raises into one line.

    Its errors are plain `Exception`s, and where it panics, of a class that derives from `BaseException` alone.

    Args:
        problem: begins the line.

    Raises:
        CheckpointError: the library raised something.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).strip().splitlines() or ["it says no more"])[0]
        raise CheckpointError(f"{problem}: {reason[:300]}") from error


def text_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return a tokenizer with the same ids to which "</s>", "<pad>" and the like are text as any other.

    It is not enough not to look for special tokens: T5's vocabulary holds their names among its pieces, where the
    language model of the tokenizer finds them again. So their first character is made a word of its own.

    Raises:
        CheckpointError: the tokenizer is not one that `tokenizer.json` defines.
    """
    if not tokenizer.is_fast:
        raise CheckpointError(f"{type(tokenizer).__name__} cannot be used; give a tokenizer with a tokenizer.json")
    reads_text: Tokenizer = copy.deepcopy(tokenizer.backend_tokenizer)
    reads_text.no_truncation()
    reads_text.no_padding()
    reads_text.encode_special_tokens = True
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = "|".join([*(re.escape(name[1:]) for name in special if name.startswith("<")), *_OTHER_SPECIAL_NAMES])
    steps: list[PreTokenizer] = [reads_text.pre_tokenizer] if reads_text.pre_tokenizer else []
    reads_text.pre_tokenizer = Sequence([*steps, Split(Regex(f"<(?={names})"), "isolated")])
    return reads_text


def single_token_id(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Return the id of a word that the tokenizer holds as one token.

    Raises:
        CheckpointError: the word is split or unknown, so its score could not be read from one decoder step.
    """
    with rust_errors("the tokenizer is damaged"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise CheckpointError(
            f"{text!r} is {len(ids)} tokens for this tokenizer, not one; use other options or weights"
        )
    if ids[0] == tokenizer.unk_token_id:
        raise CheckpointError(f"{text!r} is unknown to this tokenizer; use other options or weights")
    return ids[0]
