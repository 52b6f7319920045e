"""Loading a tokenizer exactly as its `tokenizer.json` defines it.

The file may come from a stranger, and its patterns and replacements are a small program that runs on every prompt.
Only steps on an allow-list are run, so that no text grows without bound.
"""

import base64
import binascii
import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import PreTokenizer, Sequence, Split
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

from lavis.common.errors import CheckpointError, did_you_mean, first_line
from lavis.common.files import read_json

TOKENIZER_FILE = "tokenizer.json"
# mT5's, the largest known, has 16 million.
_MAX_BYTES = 64_000_000

# T5's sentinels and the bytes of other vocabularies, which not every tokenizer marks as special.
_OTHER_SPECIAL_NAMES = (r"extra_id_\d+>", "0x[0-9A-F]{2}>")

# What each part of a tokenizer may do.
_STEPS = {
    "model": "Unigram BPE WordLevel WordPiece",
    "normalizer": (
        "Sequence Precompiled Replace Prepend Strip StripAccents Lowercase Nmt NFC NFD NFKC NFKD BertNormalizer"
    ),
    "pre_tokenizer": (
        "Sequence Metaspace WhitespaceSplit Whitespace BertPreTokenizer Punctuation Digits ByteLevel UnicodeScripts"
    ),
    "post_processor": "Sequence TemplateProcessing BertProcessing RobertaProcessing ByteLevel",
    "decoder": "Sequence Metaspace ByteFallback Fuse Strip Replace ByteLevel WordPiece BPEDecoder",
}
_CHILDREN = ("normalizers", "pretokenizers", "processors", "decoders")
_MAX_STEPS = 16
# Patterns that transformers writes when it converts SentencePiece models, T5's among them.
_PATTERNS = frozenset({" {2,}", r"\s+", r"\s{2,}"})
# How much longer all replacements together may make a text, and what a step may add at its ends.
_MAX_GROWTH = 64
_MAX_ADDED = 16
# The longest character of Unicode's compatibility forms takes 33 bytes.
_MAX_CHARACTER_BYTES = 64


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
        raise CheckpointError(
            f"no tokenizer at {source}: {first_line(error)}; give a folder with tokenizer.json"
        ) from error
    check_tokenizer(steps, place=str(file))
    with rust_errors(f"{file} is damaged"):
        backend = Tokenizer.from_file(str(file))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )


@contextmanager
def rust_errors(problem: str) -> Iterator[None]:
    """Turn what the tokenizers library raises into a CheckpointError of one line, which begins with the problem.

    Its errors are plain `Exception`s, and where it panics, of a class that derives from `BaseException` alone.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{problem}: {first_line(error)}") from error


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


def check_tokenizer(content: Any, *, place: str) -> None:
    """Refuse a `tokenizer.json` that does what no T5 tokenizer needs.

    Raises:
        CheckpointError: a step is unknown, has a pattern of its own, or lets a text grow too much.
    """
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise CheckpointError(f"{place} is damaged: it describes no tokenizer")
    growth = 1.0
    for part, names in _STEPS.items():
        allowed = names.split()
        for step in _flat(content.get(part), place=f"{place}: {part}"):
            # Older files do not name the kind of their vocabulary.
            kind = step.get("type", "Unigram" if part == "model" else None)
            if not isinstance(kind, str) or kind not in allowed:
                raise CheckpointError(f"{place}: {part}: unknown {kind!r}; {did_you_mean(str(kind), allowed)}")
            if part == "normalizer":
                growth *= _growth(step, place=f"{place}: {part}")
            _check_pattern(step, place=f"{place}: {part}")
            _check_template(step, place=f"{place}: {part}")
    if growth > _MAX_GROWTH:
        raise CheckpointError(f"{place}: its normalizer can make a text {growth:.3g} times longer, not {_MAX_GROWTH}")


def _flat(step: Any, *, place: str) -> Iterator[dict[str, Any]]:
    """Yield a step and, of a sequence, those within, in any order."""
    left, count = [step], 0
    while left:
        step = left.pop()
        if step is None:
            continue
        count += 1
        if not isinstance(step, dict) or count > _MAX_STEPS:
            raise CheckpointError(f"{place}: up to {_MAX_STEPS} steps are read, each a mapping")
        yield step
        for name in _CHILDREN:
            children = step.get(name) or []
            if not isinstance(children, list) or len(children) > _MAX_STEPS:
                raise CheckpointError(f"{place}: {name} is no list of up to {_MAX_STEPS} steps")
            left.extend(children)


def _growth(step: dict[str, Any], *, place: str) -> float:
    """Return how many times longer a step of the normalizer can make a text."""
    if step["type"] == "Precompiled":
        return _growth_of_charsmap(step.get("precompiled_charsmap"), place=place)
    if step["type"] == "Replace":
        pattern, content = step.get("pattern"), step.get("content")
        shortest = len(str(pattern["String"])) if isinstance(pattern, dict) and "String" in pattern else 1
        if not shortest or not isinstance(content, str):
            raise CheckpointError(f"{place}: Replace needs a pattern and what to put there")
        return max(1.0, len(content) / shortest)
    added = step.get("prepend", "")
    if not isinstance(added, str) or len(added) > _MAX_ADDED:
        raise CheckpointError(f"{place}: Prepend adds more than {_MAX_ADDED} characters")
    return 1.0


def _growth_of_charsmap(charsmap: Any, *, place: str) -> float:
    """Check SentencePiece's table: the size of an index, the index, and what characters become, each ended by a zero.

    Nearly all characters become others of much the same length, and the longest entry is bounded: that is taken for a
    growth of eight.
    """
    try:
        table = base64.b64decode(charsmap, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise CheckpointError(f"{place}: precompiled_charsmap is damaged: {error}") from error
    start = 4 + int.from_bytes(table[:4], "little")
    if start > len(table) or max(map(len, table[start:].split(b"\0"))) > _MAX_CHARACTER_BYTES:
        raise CheckpointError(f"{place}: precompiled_charsmap is damaged, or makes a text much longer")
    return 8.0


def _check_pattern(step: dict[str, Any], *, place: str) -> None:
    pattern = step.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if expression is not None and expression not in _PATTERNS:
        shown = str(expression)[:80]
        raise CheckpointError(f"{place}: the pattern {shown!r} is not run; known: {', '.join(sorted(_PATTERNS))}")


def _check_template(step: dict[str, Any], *, place: str) -> None:
    for name in ("single", "pair"):
        if isinstance(step.get(name), list) and len(step[name]) > _MAX_ADDED:
            raise CheckpointError(f"{place}: its template adds more than {_MAX_ADDED} tokens to each text")
    special = step.get("special_tokens")
    for token in special.values() if isinstance(special, dict) else ():
        if isinstance(token, dict) and len(token.get("ids") or ()) > 1:
            raise CheckpointError(f"{place}: a special token of its template stands for several")
