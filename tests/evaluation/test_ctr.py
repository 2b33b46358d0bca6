import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.metrics import f1_score, roc_auc_score

from kgrec.errors import KgrecError
from kgrec.evaluation.ctr import accuracy, auc, best_f1_threshold, f1, log_loss

rows = st.lists(
    st.tuples(st.integers(-5, 5), st.integers(0, 1)), min_size=2, max_size=60
).filter(lambda r: 0 < sum(label for _, label in r) < len(r))  # fmt: skip


def split(pairs):
    scores = torch.tensor([float(s) for s, _ in pairs])
    return scores, torch.tensor([float(label) for _, label in pairs])


def test_auc_by_hand():
    # Positives score 3 and 1, negatives 2 and 1: of 4 pairs 2 are right, 1 is a tie.
    scores, labels = torch.tensor([3.0, 1.0, 2.0, 1.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert auc(scores, labels) == 2.5 / 4


@settings(deadline=None)
@given(rows)
def test_auc_is_the_share_of_pairs_in_order(pairs):
    scores, labels = split(pairs)
    wins = [
        1.0 if p > n else 0.5 if p == n else 0.0
        for p in scores[labels == 1].tolist()
        for n in scores[labels == 0].tolist()
    ]
    assert auc(scores, labels) == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auc_does_not_saturate():
    # A float32 sigmoid makes these 1.0 all; ranks tell them apart.
    scores = torch.tensor([40.0, 30.0, 20.0, 10.0])
    assert auc(scores, torch.tensor([1.0, 1.0, 0.0, 0.0])) == 1.0


def test_auc_of_one_class_is_nan():
    assert math.isnan(auc(torch.tensor([1.0, 2.0]), torch.ones(2)))


@settings(deadline=None)
@given(rows, st.integers(-5, 5))
def test_f1_equals_sklearn(pairs, threshold):
    scores, labels = split(pairs)
    expected = f1_score(labels, scores >= threshold, zero_division=0.0)
    assert f1(scores, labels, threshold) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(rows)
def test_no_threshold_beats_the_best_one(pairs):
    scores, labels = split(pairs)
    best = f1(scores, labels, best_f1_threshold(scores, labels))
    assert best == max(f1(scores, labels, t) for t in scores.tolist())


def test_f1_of_nothing():
    assert f1(torch.tensor([0.0]), torch.tensor([0.0]), threshold=1.0) == 0.0


def test_accuracy_and_log_loss_equal_scikit_learn():
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(500, generator=draw, dtype=torch.float64) * 3
    labels = (torch.rand(500, generator=draw) < 0.3).float()
    probs = logits.sigmoid().numpy()
    assert log_loss(logits, labels) == pytest.approx(
        sklearn_metrics.log_loss(labels, probs), abs=1e-9
    )
    assert accuracy(logits, labels, 0.0) == pytest.approx(
        sklearn_metrics.accuracy_score(labels, probs >= 0.5), abs=1e-12
    )


@pytest.mark.parametrize(
    "metric",
    [
        auc,
        best_f1_threshold,
        log_loss,
        lambda s, y: f1(s, y, 0.0),
        lambda s, y: accuracy(s, y, 0.0),
    ],
    ids=["auc", "best_f1_threshold", "log_loss", "f1", "accuracy"],
)
def test_scores_that_are_nan_are_an_error(metric):
    scores, labels = torch.tensor([1.0, torch.nan, 0.0]), torch.tensor([1.0, 1.0, 0.0])
    with pytest.raises(KgrecError, match="found 1 of 3 scores that are NaN, expected numbers"):
        metric(scores, labels)


def test_log_loss_of_extreme_wrong_scores_is_finite():
    assert log_loss(torch.tensor([200.0, -200.0]), torch.tensor([0.0, 1.0])) == pytest.approx(200)


def test_log_loss_by_hand():
    logits, labels = torch.tensor([0.0, math.log(3)]), torch.tensor([1.0, 0.0])
    assert log_loss(logits, labels) == pytest.approx((math.log(2) + math.log(4)) / 2)
