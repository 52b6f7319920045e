import pytest
import torch

from lavis.models.language.t5 import T5LanguageModel
from lavis.models.sevila.model import JointPacking, PerFramePacking, majority_vote
from tests.unit.models.tiny import QUERIES, WIDTH, random_tokens

PROMPTS = ["Question: what is shown?", "yes"]


def embedded(language: T5LanguageModel, ids: list[int]) -> torch.Tensor:
    return language.model.shared.weight[ids]


def prefix_ids(language: T5LanguageModel, text: str) -> list[int]:
    return language.tokenizer(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_joint_input_is_prefix_and_frame_in_turn_and_then_the_text(language: T5LanguageModel, num_frames: int) -> None:
    frames = random_tokens(2, num_frames)
    text = language.tokenize(PROMPTS, end_of_text=True)
    inputs = JointPacking().inputs(language, frames, text)
    for row in range(2):
        parts = []
        for position in range(num_frames):
            parts += [embedded(language, prefix_ids(language, f"Frame {position + 1}: ")), frames[row, position]]
        parts.append(embedded(language, text.ids[row].tolist()))
        torch.testing.assert_close(inputs.embeds[row], torch.cat(parts), rtol=0, atol=0)
    visual = num_frames * (4 + QUERIES)
    assert inputs.mask[:, :visual].all()
    assert inputs.mask[:, visual:].tolist() == text.mask.tolist()
    assert text.mask.sum(1).tolist() == [7, 2]


def test_short_prefixes_are_padded_in_mid_sequence_from_ten_frames_on(language: T5LanguageModel) -> None:
    frames = random_tokens(1, 11)
    text = language.tokenize(["yes"], end_of_text=True)
    inputs = JointPacking().inputs(language, frames, text)
    padding = embedded(language, [language.tokenizer.pad_token_id])
    assert prefix_ids(language, "Frame 9: ") == [448, 415, 337, 259]
    assert prefix_ids(language, "Frame 10: ") == [448, 407, 312, 337, 259]
    per_frame = 5 + QUERIES
    blocks = inputs.embeds[0, : 11 * per_frame].view(11, per_frame, WIDTH)
    masks = inputs.mask[0, : 11 * per_frame].view(11, per_frame)
    torch.testing.assert_close(blocks[:, 5:], frames[0], rtol=0, atol=0)
    for position in range(11):
        ids = prefix_ids(language, f"Frame {position + 1}: ")
        short = position < 9
        torch.testing.assert_close(blocks[position, : len(ids)], embedded(language, ids), rtol=0, atol=0)
        assert len(ids) == (4 if short else 5)
        assert masks[position].tolist() == [1, 1, 1, 1, 0 if short else 1] + [1] * QUERIES
        if short:
            torch.testing.assert_close(blocks[position, 4:5], padding, rtol=0, atol=0)


def test_frames_read_alone_make_a_row_each_in_the_order_of_questions_and_frames(language: T5LanguageModel) -> None:
    frames = random_tokens(2, 3)
    text = language.tokenize(PROMPTS, end_of_text=True)
    inputs = PerFramePacking().inputs(language, frames, text)
    prefix = embedded(language, prefix_ids(language, "Frame: "))
    assert prefix_ids(language, "Frame: ")[-1] == prefix_ids(language, "▁")[-1]
    for question in range(2):
        for frame in range(3):
            expected = torch.cat([prefix, frames[question, frame], embedded(language, text.ids[question].tolist())])
            torch.testing.assert_close(inputs.embeds[question * 3 + frame], expected, rtol=0, atol=0)
            mask = [1] * (3 + QUERIES) + text.mask[question].tolist()
            assert inputs.mask[question * 3 + frame].tolist() == mask


def test_one_frame_is_numbered_when_read_jointly_and_not_when_read_alone(language: T5LanguageModel) -> None:
    frames = random_tokens(1, 1)
    text = language.tokenize(["yes"], end_of_text=True)
    joint, alone = (reader.inputs(language, frames, text) for reader in (JointPacking(), PerFramePacking()))
    assert joint.embeds.shape == (1, 4 + QUERIES + 2, WIDTH)
    assert alone.embeds.shape == (1, 3 + QUERIES + 2, WIDTH)
    torch.testing.assert_close(joint.embeds[0, 4:], alone.embeds[0, 3:], rtol=0, atol=0)


@pytest.mark.parametrize(("num_frames", "alone"), [(1, 1), (4, 4), (32, 32)])
def test_rows_of_each_reader(language: T5LanguageModel, num_frames: int, alone: int) -> None:
    text, frames = language.tokenize(["yes"], end_of_text=True), random_tokens(1, num_frames)
    assert len(JointPacking().inputs(language, frames, text).mask) == 1
    assert len(PerFramePacking().inputs(language, frames, text).mask) == alone


def test_frames_take_the_precision_of_the_language_model(language: T5LanguageModel) -> None:
    text = language.tokenize(["yes"], end_of_text=True)
    assert JointPacking().inputs(language, random_tokens(1, 2).half(), text).embeds.dtype == torch.float32


@pytest.mark.parametrize(
    ("logits", "winner"),
    [
        pytest.param([[0.0, 1.0, 2.0]], 2, id="one frame"),
        pytest.param([[3.0, 1.0], [0.0, 1.0], [0.0, 1.0]], 1, id="most frames win, whatever the logits"),
        pytest.param([[5.0, 1.0], [1.0, 2.0]], 0, id="a tie goes to the higher sum"),
        pytest.param([[2.0, 1.0], [1.0, 5.0]], 1, id="a tie goes to the higher sum, here the later one"),
        pytest.param([[2.0, 1.0], [1.0, 2.0]], 0, id="a full tie goes to the first option"),
        pytest.param([[1.0, 1.0, 0.0]], 0, id="equal logits of a frame count for the first option"),
        pytest.param([[9.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 2.0, 1.0]], 0, id="three-way tie"),
    ],
)
def test_majority_vote(logits: list[list[float]], winner: int) -> None:
    assert majority_vote(logits) == winner
