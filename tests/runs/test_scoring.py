import pytest
import torch
from conftest import Train

from kgrec.errors import DataError
from kgrec.runs.scoring import FinishedRun


def test_a_finished_run_scores_raw_ids_from_its_folder_alone(train: Train, tmp_path):
    run = train()
    moved = tmp_path / "elsewhere"
    run.folder.rename(moved)
    finished = FinishedRun.load(moved)
    scores = finished.score(["user3", "user4"], ["item5", "item6"])
    with torch.no_grad():
        expected = finished.recommender.score(torch.tensor([3, 4]), torch.tensor([5, 6]))
    assert scores == expected.tolist()
    with pytest.raises(DataError, match="found user 'nobody', expected one of the 60 users"):
        finished.score(["nobody"], ["item1"])
    with pytest.raises(DataError, match=r"did you mean user3\?"):
        finished.score("user03", "item1")
    # One user is paired with every item, and one item with every user.
    assert finished.score("user3", ["item5", "item6"]) == finished.score(
        ["user3", "user3"], ["item5", "item6"]
    )
    both = finished.score(["user3", "user4"], "item5")
    assert both[1] == pytest.approx(finished.score("user4", "item5")[0], abs=1e-6)
    with pytest.raises(DataError, match="found 2 users and 3 items, expected pairs"):
        finished.score(["user3", "user4"], ["item1", "item2", "item3"])
    with pytest.raises(DataError, match=r"found no metrics\.json"):
        FinishedRun.load(tmp_path)
