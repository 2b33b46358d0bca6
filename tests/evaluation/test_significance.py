"""Tests of difference: against literal resampling, scipy's results, and planted differences."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from kgrec.evaluation.ctr import auc, f1
from kgrec.evaluation.significance import (
    bootstrap_paired,
    bootstrap_pooled,
    holm,
    resampled_users,
    t_test,
    weighted_auc,
    weighted_f1,
    wilcoxon,
)


def rows(num_users=40, per_user=6, seed=0, levels=None):
    draw = torch.Generator().manual_seed(seed)
    users = torch.arange(num_users).repeat_interleave(per_user)
    labels = (torch.rand(len(users), generator=draw) < 0.5).float()
    scores = labels + torch.randn(len(users), generator=draw)
    if levels is not None:
        scores = (scores * levels).round()
    return users, labels, scores


@pytest.mark.parametrize("levels", [None, 1])  # without and with many ties
def test_weighted_figures_are_those_of_repeated_rows(levels):
    users, labels, scores = rows(levels=levels)
    counts = next(resampled_users(40, 5, seed=1, block=5))
    found = weighted_auc(scores, labels)(counts[:, users])
    at = weighted_f1(scores, labels, 0.4)(counts[:, users])
    for number, count in enumerate(counts):
        assert int(count.sum()) == 40
        index = torch.repeat_interleave(torch.arange(len(users)), count[users].long())
        assert float(found[number]) == pytest.approx(auc(scores[index], labels[index]), abs=1e-12)
        assert float(at[number]) == pytest.approx(f1(scores[index], labels[index], 0.4), abs=1e-12)


def pooled(first, second, labels, users, **how):
    pair = (weighted_auc(first, labels), weighted_auc(second, labels))
    return bootstrap_pooled([pair], [users], **how)


def test_a_planted_difference_of_auc_is_significant_and_no_difference_is_not():
    users, labels, scores = rows(200)
    noise = torch.randn(len(scores), generator=torch.Generator().manual_seed(5))
    worse = pooled(scores, scores + 2 * noise, labels, users)
    assert worse.high < 0
    assert worse.p < 0.01
    assert worse.value == pytest.approx(worse.second - worse.first)
    assert worse.low < worse.value < worse.high
    same = pooled(scores, scores + 1e-3 * noise, labels, users)
    assert same.low < 0 < same.high
    assert pooled(scores, scores, labels, users) == (same.first, same.first, 0, 0, 1)


def test_the_interval_is_as_wide_as_the_spread_of_fresh_samples():
    """Whole users are resampled: rows of a user are copies here, so rows are too few by six."""
    draw = torch.Generator().manual_seed(0)
    users = torch.arange(300).repeat_interleave(6)
    differences, widths = [], []
    for _ in range(60):
        labels = (torch.rand(300, generator=draw) < 0.5).float()
        a, b = (labels + torch.randn(300, generator=draw) for _ in range(2))
        found = pooled(*(x[users] for x in (a, b, labels)), users, samples=300)
        differences.append(found.value)
        widths.append((found.high - found.low) / (2 * 1.96))
    assert np.mean(widths) == pytest.approx(np.std(differences, ddof=1), rel=0.3)


def test_several_splits_are_averaged():
    parts = [rows(seed=seed) for seed in (0, 1)]
    pairs = [(weighted_auc(s, y), weighted_auc(-s, y)) for _, y, s in parts]
    found = bootstrap_pooled(pairs, [u for u, _, _ in parts], samples=50)
    assert found.first == pytest.approx(sum(auc(s, y) for _, y, s in parts) / 2)
    assert found.second == pytest.approx(1 - found.first)


def test_the_paired_bootstrap_agrees_with_the_t_interval():
    draw = torch.Generator().manual_seed(2)
    first = torch.rand(400, generator=draw)
    second = first + 0.05 + 0.2 * torch.randn(400, generator=draw)
    found = bootstrap_paired(first, second)
    expected = stats.ttest_rel(second, first).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.003)
    assert found.p < 0.01
    assert bootstrap_paired(first, first).p == 1


def test_wilcoxon_leaves_ties_out_and_says_which_way():
    first = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    second = first + torch.tensor([0.1, 0.2, 0, 0.3, 0.4, -0.05, 0.5, 0.6])
    found = wilcoxon(first, second)
    assert found.differing == 7
    # Ranks of |differences|: 0.05 is the least, so 27 of 28 favour the second.
    assert found.effect == pytest.approx((27 - 1) / 28)
    assert found.p == pytest.approx(
        stats.wilcoxon((second - first).numpy()[[0, 1, 3, 4, 5, 6, 7]]).pvalue
    )
    assert wilcoxon(first, first) == (1.0, 0.0, 0)


def test_the_t_test_is_students_and_needs_two_runs():
    found = t_test([0.79, 0.80, 0.81], [0.83, 0.84, 0.86])
    assert found.p == pytest.approx(stats.ttest_ind([0.83, 0.84, 0.86], [0.79, 0.80, 0.81]).pvalue)
    assert found.low < 0.0433 < found.high
    assert math.isnan(t_test([0.8], [0.9]).p)
    assert t_test([0.8, 0.8], [0.8, 0.8]).p == 1
    assert t_test([0.8, 0.8], [0.9, 0.9]).p == 0


def test_holm_by_hand():
    # Ascending 0.01 ≤ 0.02 ≤ 0.04: times 3, 2, 1, and never below the one before.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    found = holm([float("nan"), 0.02])
    assert math.isnan(found[0])
    assert found[1] == 0.02
