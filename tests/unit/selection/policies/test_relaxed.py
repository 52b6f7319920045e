"""The soft choices, against slow ones that follow the definitions, and against what they are estimates of."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch

from lavis.selection.policies.relaxed import gumbel_top_k, perturbed_top_k

SCORES = torch.tensor([[0.1, 0.9, 0.45, 0.5], [0.3, 0.3, 0.3, 0.0]], dtype=torch.float64)


def draws(num_samples: int) -> np.ndarray:
    """The noise [B, draws, T] that is drawn after `torch.manual_seed(0)`."""
    torch.manual_seed(0)
    return torch.randn(len(SCORES), num_samples, SCORES.shape[1], dtype=torch.float64).numpy()


def slow_indicator(values: np.ndarray, k: int) -> np.ndarray:
    """The indicator [K, T] of the K largest values, in the order of their places."""
    largest = sorted(sorted(range(len(values)), key=lambda place: -values[place])[:k])
    found = np.zeros((k, len(values)))
    for row, place in enumerate(largest):
        found[row, place] = 1
    return found


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("sigma", [0.05, 0.4])
def test_perturbed_top_k_and_its_gradient_are_the_means_of_the_definition(k: int, sigma: float) -> None:
    num_samples = 60
    noise = draws(num_samples)
    torch.manual_seed(0)
    scores = SCORES.clone().requires_grad_()
    weights = perturbed_top_k(scores, k, sigma=sigma, num_samples=num_samples)
    towards = torch.from_numpy(np.random.default_rng(1).normal(size=weights.shape))
    (weights * towards).sum().backward()
    for row in range(len(SCORES)):
        indicators = [slow_indicator(SCORES[row].numpy() + sigma * noise[row, n], k) for n in range(num_samples)]
        np.testing.assert_allclose(weights[row].detach().numpy(), np.mean(indicators, axis=0), atol=1e-12)
        jacobian = np.mean([np.einsum("kt,s->kts", one, noise[row, n]) for n, one in enumerate(indicators)], axis=0)
        expected = np.einsum("kt,kts->s", towards[row].numpy(), jacobian / sigma)
        np.testing.assert_allclose(scores.grad[row].numpy(), expected, atol=1e-10)


def test_of_two_frames_the_expectation_and_its_slope_are_known() -> None:
    sigma, gap = 0.5, 0.3
    torch.manual_seed(0)
    scores = torch.tensor([[gap, 0.0]], dtype=torch.float64, requires_grad=True)
    weights = perturbed_top_k(scores, 1, sigma=sigma, num_samples=200_000)
    weights[0, 0, 0].backward()
    spread = gap / (sigma * math.sqrt(2))
    assert weights[0, 0, 0].item() == pytest.approx(0.5 * (1 + math.erf(spread / math.sqrt(2))), abs=0.005)
    slope = math.exp(-(spread**2) / 2) / math.sqrt(2 * math.pi) / (sigma * math.sqrt(2))
    assert scores.grad[0].tolist() == pytest.approx([slope, -slope], abs=0.02)


def test_the_gradient_is_the_finite_difference_of_the_expectation() -> None:
    sigma, step, k = 0.3, 0.1, 2
    scores = SCORES[:1].clone().requires_grad_()
    towards = torch.tensor([[[1.0, -2.0, 0.5, 0.0], [0.0, 1.0, 3.0, -1.0]]], dtype=torch.float64)
    torch.manual_seed(0)
    (perturbed_top_k(scores, k, sigma=sigma, num_samples=300_000) * towards).sum().backward()
    noise = np.random.default_rng(2).normal(size=(300_000, 4))

    def expected(values: np.ndarray) -> float:
        chosen = np.sort(np.argsort(-(values + sigma * noise), axis=1)[:, :k], axis=1)
        return float(sum(towards[0, row].numpy()[chosen[:, row]].mean() for row in range(k)))

    for place in range(4):
        shift = step * np.eye(4)[place]
        base = SCORES[0].numpy()
        slope = (expected(base + shift) - expected(base - shift)) / (2 * step)
        assert scores.grad[0, place].item() == pytest.approx(slope, abs=0.15)


@pytest.mark.parametrize("soft", [lambda s, k: gumbel_top_k(s, k), lambda s, k: gumbel_top_k(s, k, hard=False)])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_weights_of_each_chosen_frame_sum_to_one(soft: object, k: int) -> None:
    weights = soft(SCORES, k)
    assert weights.shape == (2, k, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, k, dtype=torch.float64))


def test_hard_draws_are_exactly_k_different_frames_in_time_order() -> None:
    torch.manual_seed(0)
    for _ in range(50):
        weights = gumbel_top_k(SCORES.float().requires_grad_(), 3)
        assert ((weights == 0) | (weights == 1)).all()
        places = weights.argmax(-1)
        assert (places.diff(dim=1) > 0).all()


def test_hard_draws_follow_the_softmax_without_replacement() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    odds = logits.softmax(0).tolist()
    torch.manual_seed(0)
    one = gumbel_top_k(logits.expand(40_000, -1), 1).mean(0)[0]
    assert one.tolist() == pytest.approx(odds, abs=0.01)
    pairs = gumbel_top_k(logits.expand(40_000, -1), 2).sum(1)
    for left_out in range(3):
        orders = permutations([place for place in range(3) if place != left_out])
        share = sum(odds[first] * odds[second] / (1 - odds[first]) for first, second in orders)
        assert (pairs[:, left_out] == 0).double().mean().item() == pytest.approx(share, abs=0.01)


def test_the_gradient_of_hard_draws_is_that_of_their_softmaxes() -> None:
    temperature = 0.7
    logits = SCORES[:1].clone().requires_grad_()
    towards = torch.tensor([[[1.0, -2.0, 0.5, 0.0], [0.0, 1.0, 3.0, -1.0]]], dtype=torch.float64)
    torch.manual_seed(3)
    weights = gumbel_top_k(logits, 2, temperature=temperature)
    (weights * towards).sum().backward()
    torch.manual_seed(3)
    noise = -torch.empty_like(SCORES[:1]).exponential_().log()
    noisy = (SCORES[:1] + noise)[0].numpy() / temperature
    taken, rows = [], {}
    for _ in range(2):
        raised = np.exp(noisy - noisy.max())
        raised[taken] = 0
        share = raised / raised.sum()
        taken.append(int(share.argmax()))
        rows[taken[-1]] = share
    expected = np.zeros(4)
    for row, place in enumerate(sorted(rows)):
        share, wanted = rows[place], towards[0, row].numpy()
        expected += (share * wanted - share * (share @ wanted)) / temperature
    assert [int(place) for place in weights[0].argmax(-1)] == sorted(taken)
    np.testing.assert_allclose(logits.grad[0].numpy(), expected, atol=1e-12)


def test_without_noise_the_softmaxes_themselves_are_given() -> None:
    weights = gumbel_top_k(SCORES[:1], 2, temperature=0.5, hard=False)[0]
    first = (SCORES[0] / 0.5).softmax(0)
    left = torch.tensor([0.1, -torch.inf, 0.45, 0.5], dtype=torch.float64) / 0.5
    # The frame that scores highest is the first in time of the two.
    torch.testing.assert_close(weights, torch.stack([first, left.softmax(0)]))


def test_one_frame_of_one_is_chosen_whole() -> None:
    for scores in (torch.tensor([[3.0]]), torch.tensor([[-1e9]])):
        assert gumbel_top_k(scores, 1).tolist() == [[[1.0]]]
        assert perturbed_top_k(scores, 1, sigma=0.05, num_samples=3).tolist() == [[[1.0]]]
