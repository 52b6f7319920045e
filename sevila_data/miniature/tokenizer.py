"""The embedded model's tokenizer: whole words of its small world, single bytes for everything else.

It is laid out like T5's (Unigram with "▁" for a space, pad 0, end 1, unknown 2), so that the same
code reads both. `python -m sevila_data.miniature.tokenizer FOLDER` writes it.
"""

import string
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from sevila_data.miniature.world import VALUES

SPECIAL = ("<pad>", "</s>", "<unk>")

# The words of the prompts, of the synthetic world and of everyday questions about videos.
WORDS = """
Question Option Options Frame Short answer Considering the information presented in frame select correct from
options Does within provide necessary details to accurately given question predict next event Upon observing
provided frames what is most probable subsequent yes no a an and are as at be been before after behind beside
between by can colour color comes contains did do does doing during each end first for goes happens has have
he her his how in inside into is it its last left let long look looks many me moment move moves moving near
not of off on one or out over part person place right scene second see seen she shape show shown shows some
someone something start stop stops than that the their them then there they thing this time times to two three
four five six under up used using video was watch way we were what when where which while who whose why will
with you your red green blue yellow purple orange pink white black grey brown cyan magenta circle square
triangle star cross ring diamond heart ball box beach forest city desert night snow sea sky field room street
kitchen garden house rises falls bounces spins grows shrinks still down stays slides turns jumps man woman boy
girl child people dog cat bird car boat bike hand table chair cup book phone door bag hat tree water
background object objects colours shapes move motion together only also same other another big small fast slow
same different appears disappears sits stands walks runs holds takes puts opens closes eats drinks talks
smiles plays thing Something The A What Where Which When Who Why How Is Are way moves stays
""".split()  # noqa: SIM905  # a list of strings would be unreadable


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer; every word of the list is one token, at a word's start."""
    words = list(dict.fromkeys(WORDS))
    letters = [*string.ascii_letters, *string.digits, *string.punctuation]
    pieces = [(token, 0.0) for token in SPECIAL]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    pieces += [("▁", -4.0)]
    pieces += [(letter, -6.0) for letter in letters]
    # One-letter words must be single tokens: the letters of options are read from one decoder step.
    pieces += [(f"▁{letter}", -5.0) for letter in (*string.ascii_letters, *string.digits)]
    # The Localizer's prompt writes the first option right behind a bracket, as "(red".
    pieces += [(value, -3.0) for values in VALUES.values() for value in values]
    known = {piece for piece, _ in pieces}
    pieces += [(f"▁{word}", -3.0) for word in words if f"▁{word}" not in known]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=SPECIAL.index("<unk>"), byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    )


def main() -> int:
    """Write the tokenizer to the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save_pretrained(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
