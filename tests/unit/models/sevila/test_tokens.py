"""The Answerer's tokens are made for the frames that are read, once each, and equal those made at once."""

import pytest
import torch

from lavis.models.sevila.loading import set_precision
from lavis.models.sevila.model import SeViLA
from lavis.models.sevila.tokens import MAX_DEFERRED_FRAMES, DeferredTokens, FrameTokens, whole
from tests.precision import assert_near_float64
from tests.unit.models.tiny import QUERIES, WIDTH, random_clip, random_pixels, random_tokens, recorded


class Maker:
    """Doubles features, and notes which frames it was given: each frame's features are its number."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        self.calls.append(features[:, 0, 0].int().tolist())
        return features * 2


@pytest.fixture
def maker() -> Maker:
    return Maker()


def numbered(count: int, maker: Maker, *, dtype: torch.dtype = torch.float32) -> DeferredTokens:
    features = torch.arange(count, dtype=dtype)[:, None, None].expand(count, 2, 3)
    return DeferredTokens(features.unbind(), maker)


def test_nothing_is_made_before_it_is_asked_for(maker: Maker) -> None:
    assert len(numbered(5, maker)) == 5
    assert maker.calls == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_frames_are_given_in_the_order_asked(maker: Maker, dtype: torch.dtype) -> None:
    found = numbered(9, maker, dtype=dtype)[torch.tensor([[7, 2, 2], [0, 7, 8]])]
    assert found.dtype == dtype
    assert found.shape == (2, 3, 2, 3)
    assert found[..., 0, 0].tolist() == [[14, 4, 4], [0, 14, 16]]
    assert maker.calls == [[0, 2, 7, 8]]


def test_a_frame_is_made_once_however_often_it_is_asked_for(maker: Maker) -> None:
    tokens = numbered(6, maker)
    for positions in ([[1, 3]], [[3, 4]], [[1, 4], [3, 1]]):
        tokens[torch.tensor(positions)]
    assert maker.calls == [[1, 3], [4]]
    assert tokens.whole()[:, 0, 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert maker.calls == [[1, 3], [4], [0, 2, 5]]


def test_a_call_takes_a_bounded_number_of_frames(maker: Maker) -> None:
    numbered(40, maker).whole()
    assert [len(call) for call in maker.calls] == [16, 16, 8]


def test_what_is_made_in_inference_mode_can_be_trained_on(maker: Maker) -> None:
    tokens = numbered(3, maker)
    with torch.inference_mode():
        tokens[torch.tensor([[0, 1]])]
    weight = torch.ones(3, requires_grad=True)
    (tokens[torch.tensor([[0, 1]])] * weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [4, 4, 4]


def test_chunks_are_joined_without_being_made(maker: Maker) -> None:
    joined = FrameTokens.joined([FrameTokens(random_tokens(count), numbered(count, maker)) for count in (3, 2)])
    assert len(joined) == len(joined.answerer) == 5
    assert maker.calls == []
    assert whole(joined.answerer)[:, 0, 0].tolist() == [0, 2, 4, 0, 2]


def test_chunks_of_which_some_are_made_are_joined_in_order(maker: Maker) -> None:
    tensor = torch.full((2, 2, 3), 5.0)
    chunks = [FrameTokens(random_tokens(2), tensor), FrameTokens(random_tokens(3), numbered(3, maker))]
    joined = FrameTokens.joined(chunks)
    assert isinstance(joined.answerer, torch.Tensor)
    assert joined.answerer[:, 0, 0].tolist() == [5, 5, 0, 2, 4]


def test_chunks_of_a_long_video_are_not_held_together(maker: Maker) -> None:
    chunks = [FrameTokens(random_tokens(count), numbered(count, maker)) for count in (MAX_DEFERRED_FRAMES, 1)]
    joined = FrameTokens.joined(chunks)
    assert isinstance(joined.answerer, torch.Tensor)
    assert len(joined.answerer) == MAX_DEFERRED_FRAMES + 1


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_tokens_made_later_are_those_made_at_once(own_model: SeViLA, exact_model: SeViLA, dtype: str) -> None:
    set_precision(own_model, dtype)
    pixels = random_pixels(20)
    with torch.no_grad():
        expected = exact_model.answerer(exact_model.features(pixels))
    tokens = own_model.encode(pixels)
    positions = torch.tensor([[3, 11], [11, 19]])
    assert isinstance(tokens.answerer, DeferredTokens)
    # With "fp16" it is the vision tower alone that rounds so.
    rounded = torch.float16 if dtype == "fp16" else None
    assert_near_float64(tokens.answerer[positions], expected[positions], dtype=rounded)
    assert_near_float64(tokens.answerer.whole(), expected, dtype=rounded)


@pytest.mark.parametrize(("num_frames", "made"), [(MAX_DEFERRED_FRAMES, 0), (MAX_DEFERRED_FRAMES + 1, 4)])
def test_a_long_video_does_not_hold_what_the_vision_tower_made(tiny_model: SeViLA, num_frames: int, made: int) -> None:
    with recorded(tiny_model.answerer) as calls:
        chunk = tiny_model.watch_frames(random_clip(4), num_frames=num_frames)
    assert sum(map(len, calls)) == made
    assert isinstance(chunk.answerer, torch.Tensor) == bool(made)
    assert whole(chunk.answerer).shape == (4, QUERIES, WIDTH)


def test_a_long_video_in_one_chunk_is_a_long_video(tiny_model: SeViLA) -> None:
    assert isinstance(tiny_model.encode(random_pixels(MAX_DEFERRED_FRAMES)).answerer, DeferredTokens)
    assert isinstance(tiny_model.encode(random_pixels(MAX_DEFERRED_FRAMES + 1)).answerer, torch.Tensor)
