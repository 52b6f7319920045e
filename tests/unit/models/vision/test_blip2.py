import pytest
import torch

from lavis.common.errors import ConfigError
from lavis.models.vision.blip2 import Blip2VisionTower, VisualPrompter, interpolate_position_embedding
from tests.unit.models.tiny import recorded


def small_tower(*, image_size: int) -> Blip2VisionTower:
    return Blip2VisionTower(
        image_size=image_size, patch_size=4, width=8, depth=2, num_heads=2, intermediate_size=16
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize(("image_size", "num_tokens"), [(4, 2), (16, 17), (20, 26)])
def test_features_are_one_per_patch_and_one_for_the_class(image_size: int, num_tokens: int) -> None:
    tower = small_tower(image_size=image_size)
    assert tower(torch.zeros(3, 3, image_size, image_size)).shape == (3, num_tokens, 8)
    assert (tower.width, tower.image_size) == (8, image_size)


@torch.no_grad()
def test_features_are_those_before_any_final_norm() -> None:
    tower = small_tower(image_size=16)
    features = tower(torch.randn(1, 3, 16, 16))
    patches = tower.model.encoder(inputs_embeds=tower.model.embeddings(torch.zeros(1, 3, 16, 16)))
    zeros = tower(torch.zeros(1, 3, 16, 16))
    torch.testing.assert_close(zeros, patches.last_hidden_state, rtol=0, atol=0)
    assert features.std() != pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("image_size", [0, 3, 18])
def test_sizes_that_patches_do_not_fill_are_refused(image_size: int) -> None:
    with pytest.raises(ConfigError, match=f"^image_size {image_size} is not a multiple of patch_size 4$"):
        small_tower(image_size=image_size)


def test_position_tables_of_the_same_grid_stay_as_they_are() -> None:
    table = torch.randn(1, 17, 8)
    assert interpolate_position_embedding(table, 4) is table


def test_position_tables_are_resized_by_cubic_interpolation_and_the_class_entry_kept() -> None:
    rows = torch.arange(4.0).repeat_interleave(4)
    table = torch.cat([torch.tensor([9.0]), rows])[None, :, None]
    resized = interpolate_position_embedding(table, 8)
    assert resized.shape == (1, 65, 1)
    assert resized[0, 0, 0] == 9.0
    grid = resized[0, 1:, 0].view(8, 8)
    torch.testing.assert_close(grid, grid[:, :1].expand(-1, 8), rtol=0, atol=1e-6)
    # The cubic kernel (a = -0.75) on 0, 1, 2, 3 at a quarter and three quarters of the way from 1 to 2.
    assert grid[3:5, 0].tolist() == [1.296875, 1.703125]


@pytest.fixture(scope="module")
def prompter() -> VisualPrompter:
    torch.manual_seed(0)
    return VisualPrompter(
        vision_width=12, language_width=20, num_queries=5, width=16, depth=3, num_heads=2, intermediate_size=32
    ).eval()


@torch.no_grad()
def test_tokens_are_the_projected_output_of_a_q_former_that_reads_normed_features(prompter: VisualPrompter) -> None:
    features = torch.randn(4, 7, 12)
    with recorded(prompter.qformer) as asked, recorded(prompter.proj) as projected:
        tokens = prompter(features)
    (hidden,), normed = projected, asked[0]["encoder_hidden_states"]
    assert [tuple(stage.shape) for stage in (normed, hidden, tokens)] == [(4, 7, 12), (4, 5, 16), (4, 5, 20)]
    torch.testing.assert_close(normed, torch.nn.functional.layer_norm(features, (12,)), rtol=0, atol=1e-6)
    torch.testing.assert_close(tokens, prompter.proj(hidden), rtol=0, atol=0)
    assert prompter.num_queries == 5


def test_queries_look_at_the_frame_in_every_second_layer(prompter: VisualPrompter) -> None:
    crossing = [layer.has_cross_attention for layer in prompter.qformer.encoder.layer]
    assert crossing == [True, False, True]
    assert prompter.qformer.config.layer_norm_eps == 1e-12
    assert prompter.norm.eps == 1e-5


@torch.no_grad()
def test_features_of_another_precision_are_read(prompter: VisualPrompter) -> None:
    features = torch.randn(2, 7, 12).bfloat16()
    torch.testing.assert_close(prompter(features), prompter(features.float()), rtol=0, atol=0)
