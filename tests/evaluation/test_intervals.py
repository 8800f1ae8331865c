"""Intervals and tests of groups of videos, against numbers from elsewhere and against simulated truths."""

import itertools

import numpy as np
import pytest
from interval_coverage import bootstrap, coverage
from scipy.special import betaincinv
from scipy.stats import betabinom, binomtest

from varec_lib.evaluation.intervals import WIDTH, difference_interval, mcnemar, share_interval, wilson_interval


def test_wilson_interval():
    """As R's prop.test without continuity correction gives it."""
    assert np.allclose(wilson_interval(81, 263), (0.2553, 0.3662), atol=5e-4)
    assert np.allclose(wilson_interval(10, 10), (0.7225, 1.0), atol=5e-4)
    assert np.allclose(wilson_interval(0, 10), (0.0, 0.2775), atol=5e-4)


@pytest.mark.parametrize(("right", "videos"), [(3, 5), (155, 160), (40, 50)])
def test_groups_of_one_give_quantiles_of_a_beta_distribution(right, videos):
    tail = 0.025 * (1 - 1 / videos) ** 1.5
    exact = betaincinv(right + WIDTH, videos - right + WIDTH, [tail, 1 - tail])
    assert share_interval([1] * right + [0] * (videos - right), [1] * videos) == pytest.approx(exact, abs=1e-3)


def test_equal_groups_give_quantiles_of_a_beta_binomial_likelihood():
    """Integrated by brute force with scipy's betabinom."""
    right, videos = np.array([8, 10, 10, 5, 9]), 10
    shares = (np.arange(2000) + 0.5)[:, None] / 2000
    places = (np.arange(40) + 0.5) / 40
    strength = ((1 - places) / places) ** 4
    likelihood = np.prod([betabinom.pmf(k, videos, shares * strength, (1 - shares) * strength) for k in right], axis=0)
    below = (likelihood.sum(axis=1) * (shares * (1 - shares)).ravel() ** (WIDTH - 1)).cumsum()
    expected = np.interp([0.025 * 0.8**1.5, 1 - 0.025 * 0.8**1.5], below / below[-1], shares.ravel())
    assert share_interval(right, np.full(5, videos)) == pytest.approx(expected, abs=2e-3)


def test_interval_does_not_collapse_and_ends_only_where_the_share_does():
    for groups in (2, 5, 10, 35):
        videos = np.full(groups, 16)
        low, high = share_interval(videos, videos)
        assert low < 0.95 and high == 1
        assert share_interval(0 * videos, videos) == pytest.approx((0, 1 - low))
        low, high = share_interval(videos - (np.arange(groups) == 0), videos)
        assert 0 < low < high < 1
    assert share_interval([16] * 35, [16] * 35)[0] > share_interval([16] * 10, [16] * 10)[0] > 0.7


def test_interval_mirrors_and_does_not_depend_on_the_order_of_groups():
    right, videos = np.array([3, 9, 5, 14]), np.array([4, 10, 8, 20])
    low, high = share_interval(right, videos)
    assert share_interval(videos - right, videos) == pytest.approx((1 - high, 1 - low))
    assert share_interval(right[::-1], videos[::-1]) == pytest.approx((low, high))


def test_interval_is_wider_where_videos_of_a_group_agree():
    agreeing, mixed = (share_interval(right, [10] * 10) for right in ([10, 5] * 5, [8, 7] * 5))
    assert agreeing[1] - agreeing[0] > 1.5 * (mixed[1] - mixed[0])


@pytest.mark.parametrize("groups", [[], [(1, 1)], [(0, 1)], [(7, 16)], [(3783, 3783)]])
def test_a_single_group_says_nothing(groups):
    right, videos = np.array(groups, int).reshape(-1, 2).T
    assert share_interval(right, videos) == (0, 1)
    assert difference_interval(right, 0 * right, videos) == (-1, 1)
    assert mcnemar(right, 0 * right) == 1


def test_interval_holds_the_share_also_where_a_large_group_stands_alone():
    right, videos = [10, 400, 10, 10], [10, 1000, 10, 10]
    low, high = share_interval(right, videos)
    assert low < 430 / 1030 < high < 1


def test_as_many_videos_as_ucf101_tests_give_narrow_intervals_around_the_shares():
    rng = np.random.default_rng(0)
    videos = np.resize([40, 50, 60, 66], 70)
    right, other = rng.binomial(videos, 0.9), rng.binomial(videos, 0.1)
    low, high = share_interval(right, videos)
    assert 0.88 < low < right.sum() / videos.sum() < high < 0.92
    low, high = difference_interval(videos - right, other // 2, videos)
    assert -0.02 < low < high < 0.2
    assert 0 < mcnemar(other, right // 9) < 1


@pytest.mark.parametrize("top1", [0.5, 0.9, 0.98])
def test_intervals_hold_the_truth_where_a_bootstrap_does_not(top1):
    """150 simulated test sets of 10 groups; benchmarks/interval_coverage.py does all cells, with more of them."""
    videos = np.full(10, 16)
    held, _ = coverage(share_interval, top1, 0.3, videos, 150, seed=1)
    assert 0.92 <= held <= 0.99
    assert coverage(bootstrap, top1, 0.3, videos, 60, seed=1)[0] < held


@pytest.mark.parametrize(
    ("leads", "p"),
    [
        ([2, 1, -1], 6 / 8),  # sums of 2 or more in size: all but 2 - 1 - 1 and its opposite
        ([3, 1, 1], 2 / 8),
        ([1, 2, 3, 4, 5], 2 / 32),
        ([1, 2, 3, 4, 5, 6], 2 / 64),
        ([4, -4], 1.0),
        ([0, 0], 1.0),
    ],
)
def test_mcnemar_flips_the_signs_of_groups(leads, p):
    leads = np.array(leads)
    assert mcnemar(np.maximum(leads, 0), np.maximum(-leads, 0)) == pytest.approx(p)
    assert mcnemar(np.maximum(-leads, 0) + 2, np.maximum(leads, 0) + 2) == pytest.approx(p)


def test_mcnemar_counts_every_way_to_flip():
    rng = np.random.default_rng(0)
    for _ in range(5):
        leads = rng.integers(-6, 9, 9)
        sums = np.array([*itertools.product([1, -1], repeat=9)]) @ leads
        expected = (np.abs(sums) >= abs(leads.sum())).mean()
        assert mcnemar(np.maximum(leads, 0), np.maximum(-leads, 0)) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(8, 2), (10, 0), (30, 18), (5, 5), (60, 0)])
def test_mcnemar_of_groups_of_one_is_the_exact_test(first, second):
    ones = np.arange(first + second) < first
    assert mcnemar(ones, ~ones) == pytest.approx(binomtest(first, first + second).pvalue, rel=1e-6)


def test_difference_interval_turns_round_with_the_models():
    first, second, videos = np.array([3, 2, 0, 4, 1, 2]), np.array([0, 1, 0, 0, 1, 0]), np.full(6, 16)
    low, high = difference_interval(first, second, videos)
    assert low < (first - second).sum() / 96 < high
    assert difference_interval(second, first, videos) == pytest.approx((-high, -low))


def test_difference_interval_of_models_that_always_agree_is_about_zero_but_no_point():
    none = np.zeros(10, int)
    low, high = difference_interval(none, none, np.full(10, 16))
    assert low == pytest.approx(-high)
    assert 0.02 < high < 0.2
    assert difference_interval(none, none, np.full(10, 160)) == pytest.approx((low, high), abs=0.03)


def test_difference_interval_holds_the_truth():
    rng, held, videos = np.random.default_rng(0), [], np.full(10, 16)
    for _ in range(100):
        first, second, _ = rng.multinomial(videos, rng.dirichlet([0.2 * 4, 0.1 * 4, 0.7 * 4], 10)).T
        low, high = difference_interval(first, second, videos)
        held.append(low <= 0.1 <= high)
    assert 0.91 <= np.mean(held) <= 0.99
