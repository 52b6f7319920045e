"""Reading finished evaluations again: to compare two, and to fit moments on one."""

from pathlib import Path

from lavis.common.errors import UserError
from lavis.datasets.annotations import read_annotations
from lavis.runners.evaluation.fingerprint import digest_key, file_digest
from lavis.runners.evaluation.store import read_facts, read_predictions
from lavis.tasks.evaluation.moments import fit_spans
from lavis.tasks.metrics.fit_moments import MomentParameters
from lavis.tasks.metrics.paired import PairedComparison, compare_runs


def compare_folders(first: Path, second: Path, *, common_only: bool = False) -> PairedComparison:
    """Compare which questions two evaluations answered right; questions without annotated answer are left out.

    Args:
        common_only: compare the questions that both have, instead of refusing runs over different ones.

    Raises:
        UserError: a folder holds no finished evaluation, or the two have different questions.
    """
    right = [
        {one.id: one.is_right for one in read_predictions(folder) if one.answer is not None}
        for folder in (first, second)
    ]
    return compare_runs(right[0], right[1], common_only=common_only)


def fit_folder(folder: Path) -> MomentParameters:
    """Choose how frame scores become moments, from the predictions of an evaluation on the split val.

    Raises:
        UserError: it is not about moments, or not on val, or its annotations have changed.
    """
    facts, predictions = read_facts(folder), read_predictions(folder)
    if facts["kind"] != "moments":
        raise UserError(f"{folder} holds answers to questions; fitting moments needs a moment retrieval evaluation")
    file = Path(facts["annotations"])
    annotations = read_annotations(file)
    if file_digest(file) != facts["fingerprint"][digest_key(facts["dataset"])]:
        raise UserError(f"{file} has changed since {folder} was made; evaluate again")
    return fit_spans(predictions, annotations.rows, split=facts["split"])
