import collections

import pytest
from conftest import Train

from kgrec.evaluation import candidates


@pytest.fixture
def calls(monkeypatch) -> collections.Counter:
    """How often the candidates of each stage have been built."""
    counter: collections.Counter = collections.Counter()
    original = candidates.candidates

    def counted(dataset, stage, *further):
        counter[stage] += 1
        return original(dataset, stage, *further)

    monkeypatch.setattr("kgrec.training.module.candidates", counted)
    return counter


def test_candidates_are_built_once_per_stage_not_once_per_epoch(train: Train, calls):
    counts = []
    for epochs in (1, 4):
        calls.clear()
        run = train(f"epochs={epochs}", "ranking.validation=true", folder=str(epochs))
        assert run.code == 0, run.err
        assert run.metrics["train/epochs"] == epochs
        counts.append(dict(calls))
    assert counts[0] == counts[1]
    assert set(counts[0]) == {"val", "test"}
