import pytest
import torch

from lavis.models.prompter import VisualPrompter


@pytest.fixture(scope="module")
def prompter() -> VisualPrompter:
    torch.manual_seed(0)
    return VisualPrompter(
        vision_width=12, language_width=20, num_queries=5, width=16, depth=3, num_heads=2, intermediate_size=32
    ).eval()


@torch.no_grad()
def test_stages_follow_from_each_other(prompter: VisualPrompter) -> None:
    features = torch.randn(4, 7, 12)
    stages = prompter.stages(features)
    assert [tuple(stage.shape) for stage in (stages.normed, stages.hidden, stages.tokens)] == [
        (4, 7, 12),
        (4, 5, 16),
        (4, 5, 20),
    ]
    torch.testing.assert_close(stages.normed, torch.nn.functional.layer_norm(features, (12,)), rtol=0, atol=1e-6)
    torch.testing.assert_close(stages.tokens, prompter.proj(stages.hidden), rtol=0, atol=0)
    torch.testing.assert_close(prompter(features), stages.tokens, rtol=0, atol=0)
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
