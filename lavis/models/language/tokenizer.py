"""Loading a tokenizer exactly as its `tokenizer.json` defines it."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lavis.common.errors import CheckpointError


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder with `tokenizer.json`, or by its name on the hub.

    transformers 5 rebuilds T5 tokenizers from their vocabulary and drops a trailing "▁" token that
    the published prompts rely on ("Frame: "), so a local `tokenizer.json` is used as it stands.

    Raises:
        CheckpointError: there is no tokenizer at `source`.
    """
    file = Path(source) / "tokenizer.json"
    if file.is_file():
        return PreTrainedTokenizerFast(
            tokenizer_file=str(file), pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
        )
    try:
        return AutoTokenizer.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"no tokenizer at {source}: {reason}; give a folder with tokenizer.json") from error


def single_token_id(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Return the id of a word that the tokenizer holds as one token.

    Raises:
        CheckpointError: the word is split or unknown, so its score could not be read from one decoder step.
    """
    ids = tokenizer(text, add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise CheckpointError(
            f"{text!r} is {len(ids)} tokens for this tokenizer, not one; use other options or weights"
        )
    if ids[0] == tokenizer.unk_token_id:
        raise CheckpointError(f"{text!r} is unknown to this tokenizer; use other options or weights")
    return ids[0]
