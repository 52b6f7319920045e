"""What recipes of image-text models say that they take is what is computed, from the shapes that models have."""

from pathlib import Path

import pytest

from benchmarks.hf_costs import MODELS, lines_of
from lavis.common.files import configs_dir
from lavis.models.hf.known import KNOWN

RECIPES = sorted((configs_dir() / "hf").glob("*/*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipes_say_what_is_computed(recipe: Path) -> None:
    assert "\n".join(lines_of(recipe)) in recipe.read_text()


def test_shapes_have_the_parameters_of_the_models() -> None:
    small = MODELS["smolvlm2-500m"]
    # As a dry run counts them, with both adapters of rank 16: 3.3 of 514 million train.
    assert small.adapter(16) == pytest.approx(3.3e6, rel=0.01)
    assert small.parameters + 2 * small.adapter(16) == pytest.approx(514e6, rel=0.002)
    for name, shape in MODELS.items():
        assert shape.parameters / 1e9 == pytest.approx(KNOWN[name].billions, rel=0.02)


def test_a_frame_costs_what_was_counted() -> None:
    """GFLOP of SmolVLM2-500M: seeing a frame 215, its prefix 45, a question of 56 tokens after it 35."""
    small = MODELS["smolvlm2-500m"]
    found = [small.seen, small.read(72), small.read(56, before=72)]
    assert [one / 1e9 for one in found] == pytest.approx([215, 45, 35], rel=0.05)
