import pytest
import torch
from conftest import Train

from kgrec.errors import SettingError
from kgrec.models.recommender import Recommender
from kgrec.models.svd import SVD
from kgrec.training.memory import RowBudget


class WithoutCatalogue(Recommender):
    """A model of the user's own whose constructor does not take ``num_items``."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(torch.zeros(sizes))

    @classmethod
    def from_dataset(cls, dataset):
        return cls([dataset.num_users, dataset.num_items])

    def score(self, users, items, encoded=None):
        return self.weights[users, items]


MESSAGE = (
    "num_items: found no such argument of the constructor of "
    f"{__name__}.WithoutCatalogue, expected the number of items"
)


def test_the_catalogue_is_an_argument_of_the_constructor():
    assert SVD(2, 3).catalogue_size == 3
    model = WithoutCatalogue([2, 3])
    for needs_it in (
        lambda: model.catalogue_size,
        lambda: model.score_all(torch.tensor([0])),
        lambda: RowBudget(model, 1e9),
    ):
        with pytest.raises(SettingError) as caught:
            needs_it()
        assert str(caught.value) == MESSAGE


def test_a_run_names_the_missing_argument(train: Train):
    run = train(f"model._target_={__name__}.WithoutCatalogue.from_dataset", "~model.d", "model=svd")
    assert run.code == 1
    assert f"model.{MESSAGE}" in run.out + run.err
    assert "Traceback" not in run.out + run.err
