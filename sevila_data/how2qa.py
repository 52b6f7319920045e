"""How2QA in TVQA's row layout, as VALUE releases it: `how2qa_train_release.jsonl`, `how2qa_val_release.jsonl`.

The published notebook numbers every split from 0, so that HOW2QA_0 is a training and a validation question; here
ids carry the split: HOW2QA_train_0, HOW2QA_val_0. Times are numbers, not text.
"""

from sevila_data.dataset import RawDataset
from sevila_data.tvqa import numbered_converter

DATASET = RawDataset(
    "how2qa",
    {
        "train": ("how2qa_train_release.jsonl",),
        "val": ("how2qa_val_release.jsonl",),
        "test": ("how2qa_test_release.jsonl", "how2qa_test_public_release.jsonl"),
    },
    numbered_converter("HOW2QA", num_options=4),
)
