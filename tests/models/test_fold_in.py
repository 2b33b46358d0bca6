"""New users: the contract of ``fold_in`` for every model that has it, and what each promises."""

import dataclasses

import pytest
import torch
from conftest import ROOT, composed
from hydra.utils import instantiate
from torch.testing import assert_close

from kgrec.data.batches import PairwiseBatch, PointwiseBatch
from kgrec.data.interactions import Interactions
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.data.synthetic.small import generate
from kgrec.data.training_rows import training_rows
from kgrec.errors import SettingError
from kgrec.evaluation.ctr import auc
from kgrec.models import folding
from kgrec.models.bprmf import BPRMF
from kgrec.models.controls import Popularity, PopularityBalance
from kgrec.models.kgcn.model import KGCN
from kgrec.models.lightgcn import LightGCN
from kgrec.models.recipes import rebuild
from kgrec.models.recommender import Recommender
from kgrec.models.svd import SVD

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
CANNOT = {"popularity_balance"}


@pytest.fixture(scope="module")
def dataset():
    data = generate(
        seed=0, num_users=60, num_items=40, num_relations=3, attributes_per_relation=4,
        positives_per_user=10,
    )  # fmt: skip
    return clean(data, RandomSplit())


@pytest.fixture(params=MODELS, scope="module")
def model(request, dataset, tmp_path_factory) -> Recommender:
    torch.manual_seed(0)
    cfg = composed(f"model={request.param}")
    cfg.paths.cache = str(tmp_path_factory.mktemp("cache"))
    made = instantiate(cfg.model, dataset)
    made.precompute(dataset)
    if made.fold_in_method is None:
        assert request.param in CANNOT
        pytest.skip("this model cannot fold in")
    return made


@pytest.fixture(scope="module")
def folded(model) -> Recommender:
    with torch.no_grad():
        return model.fold_in(history(*HISTORIES))


HISTORIES = [[3, 8, 21], [0], [5, 6, 7, 8, 9, 30, 39]]


def history(*histories: list[int], num_items: int = 40) -> Interactions:
    pairs = [(user, item) for user, items in enumerate(histories) for item in items]
    return Interactions.from_pairs(*torch.tensor(pairs).T, len(histories), num_items)


def scores(model: Recommender) -> torch.Tensor:
    return model.score_all(torch.arange(int(model.arguments.get("num_users", 3))), model.encode())


def test_shapes_and_pairs_score_as_all_items_do(folded):
    everything = scores(folded)
    assert everything.shape == (3, 40)
    assert torch.isfinite(everything).all()
    users, items = torch.tensor([0, 2, 2]), torch.tensor([1, 0, 39])
    assert_close(folded.score(users, items, folded.encode()), everything[users, items])
    assert_close(folded.score(users, items), everything[users, items])


def test_the_new_model_needs_no_gradients_and_does_not_train(folded):
    assert not any(part.training for part in folded.modules())
    assert not any(tensor.requires_grad for tensor in folded.state_dict(keep_vars=True).values())
    assert not folded.score(torch.tensor([0]), torch.tensor([0])).requires_grad


def test_the_model_does_not_change(model):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    needs = {
        name: tensor.requires_grad for name, tensor in model.state_dict(keep_vars=True).items()
    }
    attributes = dict(vars(model))
    random = torch.get_rng_state()
    model.fold_in(history(*HISTORIES))
    assert all(part.training for part in model.modules())
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert needs == {n: t.requires_grad for n, t in model.state_dict(keep_vars=True).items()}
    assert all(vars(model)[name] is value for name, value in attributes.items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_large_tables_are_shared(model, folded):
    """Except after propagation: the new model has the vectors that it gives."""
    if model.fold_in_method == "propagation":
        return
    own = {tensor.data_ptr() for tensor in model.state_dict().values()}
    for name, tensor in folded.state_dict().items():
        if tensor.numel() and len(tensor.shape) and len(tensor) >= 40 and "users" not in name:
            assert tensor.data_ptr() in own, name


def test_a_user_depends_on_no_other_user_of_the_call(model, folded):
    together = scores(folded)
    alone = scores(model.fold_in(history(HISTORIES[1])))
    assert_close(alone[0], together[1], atol=1e-4, rtol=1e-4)
    turned = scores(model.fold_in(history(*HISTORIES[::-1])))
    assert_close(turned.flip(0), together, atol=1e-4, rtol=1e-4)


def test_blocks_change_nothing(model, folded, monkeypatch):
    if model.fold_in_method != "steps":
        pytest.skip("no blocks")
    monkeypatch.setattr(folding, "BLOCK_BYTES", 1)
    by_blocks = scores(model.fold_in(history(*HISTORIES)))
    assert_close(by_blocks, scores(folded), atol=1e-4, rtol=1e-4)


def test_the_same_seed_is_the_same_result(model, folded):
    assert torch.equal(scores(model.fold_in(history(*HISTORIES))), scores(folded))
    if model.fold_in_method == "steps":
        other = model.fold_in(history(*HISTORIES), seed=1)
        assert not torch.equal(scores(other), scores(folded))


def test_a_reloaded_model_folds_in_alike_and_the_new_model_can_be_saved(model, folded):
    reloaded = rebuild(model.recipe(), model.state_dict()).fold_in(history(*HISTORIES))
    assert torch.equal(scores(reloaded), scores(folded))
    saved = rebuild(folded.recipe(), folded.state_dict()).eval()
    assert_close(scores(saved), scores(folded))


def test_a_user_with_every_item(model):
    assert torch.isfinite(scores(model.fold_in(history(list(range(40)))))).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (history([1], num_items=41), "found a catalogue of 41 items, expected 40"),
        (history([1], [], [2]), "found user 1 without an item, expected an item for every user"),
        (Interactions(torch.tensor([0]), torch.tensor([40]), 1, 40), "found item 40, expected"),
    ],
)
def test_a_history_that_cannot_be(model, given, message):
    with pytest.raises(SettingError, match=message):
        model.fold_in(given)


def test_a_model_that_cannot_fold_in_says_so(dataset):
    with pytest.raises(
        SettingError, match="found PopularityBalance, expected a model that folds in"
    ):
        PopularityBalance.from_dataset(dataset).fold_in(history([1]))


def test_exact_models_give_a_trained_user_its_own_scores(model, dataset):
    if model.fold_in_method != "exact" or "ripples" in model.state_dict():
        pytest.skip("not exact, or drawn")
    degrees = dataset.train.user_degrees()
    assert (degrees > 0).all()
    folded = model.fold_in(dataset.train)
    users = torch.arange(dataset.num_users)
    assert torch.equal(
        folded.score_all(users, folded.encode()), model.score_all(users, model.encode())
    )


def test_ripple_sets_start_from_the_users_own_items(dataset):
    from kgrec.models.ripplenet import RippleNet

    torch.manual_seed(0)
    model = RippleNet.from_dataset(dataset)
    model.precompute(dataset)
    folded = model.fold_in(history(*HISTORIES))
    for user, items in enumerate(HISTORIES):
        heads = folded.heads[folded.ripples[user, 0].long()]
        assert set(heads.tolist()) <= set(items)
    other = model.fold_in(history(*HISTORIES), seed=1)
    assert not torch.equal(other.ripples, folded.ripples)


def test_lightgcn_propagates_to_the_new_users_from_the_layers_of_the_items(dataset):
    torch.manual_seed(0)
    model = LightGCN.from_dataset(dataset, d=4, H=2).double()
    folded = scores(model.fold_in(history(*HISTORIES)))
    users, items = dataset.num_users, dataset.num_items
    A = torch.zeros(users + items, users + items).double()
    A[dataset.train.users, dataset.train.items + users] = 1
    A = A + A.T
    degrees = A.sum(dim=1)
    norm = A / (degrees[:, None] * degrees).sqrt().clamp(min=1e-9)
    E = [model.embedding.detach()]
    E += [norm @ E[0], norm @ norm @ E[0]]
    for user, own in enumerate(HISTORIES):
        vector = torch.zeros(4).double()
        for layer in E[:2]:
            for item in own:
                scale = (len(own) * (degrees[users + item] + 1)).sqrt()
                vector += layer[users + item] / scale
        expected = ((E[0] + E[1] + E[2]) / 3)[users:] @ (vector / 3)
        assert_close(folded[user], expected)


def test_the_loss_of_a_block_against_a_literal_sum():
    """Every user counts alike, and so do its positives and its negatives."""
    torch.manual_seed(0)
    for kind in (SVD, BPRMF):
        model = kind(3, 40, 4).double()
        rows = folding.Rows.draw(history(*HISTORIES), seed=0)
        p = sum(map(len, HISTORIES))
        expected = torch.zeros(()).double()
        for user, own in enumerate(HISTORIES):
            negatives = rows.items[p:][rows.users[p:] == user]
            assert len(negatives) >= folding.NEGATIVES
            assert len(negatives) % len(own) == 0
            assert not set(own) & set(negatives.tolist())
            each = len(negatives) // len(own)
            items = torch.cat([torch.tensor(own), negatives])
            values = model.score(torch.full_like(items, user), items)
            positive, negative = values.split([len(own), len(negatives)])
            if kind is SVD:
                expected += -0.5 * (positive.sigmoid().log().mean())
                expected += -0.5 * ((-negative).sigmoid().log().mean())
            else:
                expected -= (positive.repeat_interleave(each) - negative).sigmoid().log().mean()
        assert_close(rows.loss(model, None), expected)


def trained(kind, dataset, epochs: int = 12) -> Recommender:
    torch.manual_seed(0)
    settings = {"K": "all"} if kind is KGCN else {}
    model = kind.from_dataset(dataset, d=16, **settings)
    (source,) = training_rows(kind.batches, dataset.train, dataset.graph, None, 1, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-5)
    (batch_kind,) = kind.batches
    assert batch_kind in (PointwiseBatch, PairwiseBatch)
    for epoch in range(epochs):
        for part in zip(*(torch.split(c, 256) for c in source.draw(epoch)), strict=True):
            optimizer.zero_grad()
            model.loss(batch_kind(*part)).backward()
            optimizer.step()
    return model.eval()


@pytest.mark.parametrize("kind", [KGCN, SVD, BPRMF, LightGCN])
def test_new_users_get_better_rankings_than_popularity(kind):
    """On planted data, whose last 60 users are not trained on."""
    whole = clean(generate(seed=0), RandomSplit())
    new = whole.num_users - 60
    train = whole.train
    kept = train.users < new
    others = dataclasses.replace(
        whole, train=Interactions(train.users[kept], train.items[kept], new, train.num_items)
    )
    own = Interactions(train.users[~kept] - new, train.items[~kept], 60, train.num_items)
    rows = whole.test.take(whole.test.users >= new)
    folded = trained(kind, others).fold_in(own)
    popularity = Popularity.from_dataset(others)
    popularity.precompute(others)
    by_model = auc(folded.score(rows.users - new, rows.items, folded.encode()), rows.labels)
    by_popularity = auc(popularity.score(rows.users, rows.items), rows.labels)
    assert by_model > by_popularity + 0.05
