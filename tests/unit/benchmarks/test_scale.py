"""docs/scale.md says what is computed, from operations that were counted."""

import pytest

from benchmarks.scale import corpus_lines, costs_of, split_lines, training_lines
from tests.architecture.source import ROOT


def test_the_page_holds_what_is_computed() -> None:
    page, costs = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8"), costs_of("flant5xl")
    for lines in (corpus_lines, training_lines, split_lines):
        assert "\n".join(lines(costs)) in page


def test_the_model_has_the_published_sizes() -> None:
    """The paper: 4.1 billion parameters, of which one role's 106 million are trained (2.5 %)."""
    costs = costs_of("flant5xl")
    assert costs.trained == pytest.approx(106e6, rel=0.01)
    assert costs.trained + costs.frozen == pytest.approx(4.05e9, rel=0.01)


def test_a_frame_of_the_base_size_costs_what_was_measured() -> None:
    """benchmarks/RESULTS.md, fp32: 22.7 s at 71 GFLOP/s and 111 % of the least for 32 frames watched; 8.35 s scored."""
    costs = costs_of("base")
    assert costs.seen == pytest.approx(22.7 * 71e9 * 1.11 / 32, rel=0.05)
    assert costs.verdict == pytest.approx(8.35 * 71e9 * 1.06 / 32, rel=0.15)
