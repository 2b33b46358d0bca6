"""Blend: a literal sum of two models, of which only one is trained."""

import math

import pytest
import torch
from conftest import composed, small
from hydra.utils import instantiate

from kgrec.config.messages import user_error
from kgrec.data.batches import ListwiseBatch, PairwiseBatch
from kgrec.data.datamodule import KGDataModule
from kgrec.data.interactions import Interactions
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.errors import CheckpointError, SettingError
from kgrec.models.blend import Blend
from kgrec.models.ease import EASE
from kgrec.models.inner_product import InnerProduct
from kgrec.models.lightckg import LightCKG
from kgrec.models.objectives import Objective
from kgrec.models.reasons import EXACT, LEAVE_ONE_OUT
from kgrec.models.recipes import rebuild
from kgrec.training.losses import has_regularizer, step_loss
from kgrec.training.memory import Lists, RowBudget

LIGHTCKG = {"class": "kgrec.models.lightckg.LightCKG", "d": 8, "H": 2}
SVD = {"class": "kgrec.models.svd.SVD", "d": 8}
KGAT = {"class": "kgrec.models.kgat.KGAT", "d": 8, "layers": [8]}
CKE = {"class": "kgrec.models.cke.CKE", "d": 8}
KGIN = {"class": "kgrec.models.kgin.KGIN", "d": 8}
EASE_300 = {"class": "kgrec.models.ease.EASE", "l2": 300.0}
ITEMKNN = {"class": "kgrec.models.itemknn.ItemKNN", "k": 5}


@pytest.fixture(scope="module")
def dataset():
    return clean(small(), RandomSplit())


class Required(LightCKG):
    """A model of the user's own, one of whose settings has no default."""

    @classmethod
    def from_dataset(cls, dataset, d):
        return super().from_dataset(dataset, d)


def blend(dataset, trained=LIGHTCKG, closed_form=EASE_300, weight=5.0) -> Blend:
    torch.manual_seed(0)
    model = Blend.from_dataset(dataset, trained, closed_form, weight)
    model.precompute(dataset)
    return model


def test_the_score_is_the_sum_of_a_light_model_and_the_closed_form_of_ease(dataset):
    model = blend(dataset)
    torch.manual_seed(0)
    light = LightCKG.from_dataset(dataset, d=8, H=2)
    X = torch.zeros(dataset.num_users, dataset.num_items).double()
    X[dataset.train.users, dataset.train.items] = 1
    P = torch.linalg.inv(X.T @ X + 300 * torch.eye(dataset.num_items).double())
    B = -P / P.diagonal()
    B.fill_diagonal_(0)
    users = torch.arange(dataset.num_users)
    expected = light.score_all(users) + 5 * (X @ B).float()
    torch.testing.assert_close(model.score_all(users), expected)
    rows = dataset.val
    scores = model.score(rows.users, rows.items)
    torch.testing.assert_close(scores, expected[rows.users, rows.items])
    assert (5 * (X @ B)).std() > 0.05  # the closed form counts


@pytest.mark.parametrize("closed_form", [EASE_300, ITEMKNN])
def test_the_weight_is_a_factor_of_the_closed_form(dataset, closed_form):
    users = torch.arange(dataset.num_users)
    none, one, three = (
        blend(dataset, SVD, closed_form, weight).score_all(users) for weight in (0.0, 1.0, 3.0)
    )
    closed = one - none
    assert closed.abs().max() > 0.05
    torch.testing.assert_close(three - none, 3 * closed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trained", [LIGHTCKG, SVD, CKE])
@pytest.mark.parametrize("name", ["own", "bce", "bpr", "softmax"])
def test_a_step_trains_the_trained_model_as_if_it_were_alone(dataset, trained, name):
    model = blend(dataset, trained)
    torch.manual_seed(0)
    kind = model.trained
    alone = type(kind).from_dataset(dataset, **{k: v for k, v in trained.items() if k != "class"})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    states = []
    for recommender in (model, alone):
        recommender.objective = None if name == "own" else Objective(name)
        data = KGDataModule(
            dataset,
            batch_size=64,
            eval_batch_size=64,
            negatives="shared" if name == "softmax" else "resampled",
            ratio=5 if name == "softmax" else 1,
            kinds=recommender.step_batches,
        ).train_batches
        data.epoch = lambda: 0
        optimizer = torch.optim.SGD(recommender.parameters(), lr=0.5)
        torch.manual_seed(1)  # dropout
        for number, [(batches, _)] in enumerate(data):
            if number == 3:
                break
            recommender.resample(torch.Generator())
            optimizer.zero_grad()
            step_loss(recommender, batches).backward()
            optimizer.step()
        states.append(recommender.state_dict())
    after, expected = states
    for key, value in expected.items():
        torch.testing.assert_close(after[f"trained.{key}"], value, rtol=0, atol=0)
    closed = [key for key in after if key.startswith("closed_form.")]
    assert closed
    assert all(torch.equal(after[key], before[key]) for key in closed)
    assert any(not torch.equal(after[key], before[key]) for key in after)


def test_training_reads_what_the_trained_model_is(dataset):
    light, svd, cke = (blend(dataset, trained) for trained in (LIGHTCKG, SVD, CKE))
    assert cke.batches == cke.trained.batches
    assert len(cke.step_batches) == 2
    assert has_regularizer(cke)
    assert not has_regularizer(light)
    light.objective = Objective("softmax")
    assert light.step_batches == (ListwiseBatch,)
    assert light.trained.objective is light.objective
    assert not light.gives_logits
    svd.objective = Objective("bpr")
    assert svd.step_batches == (PairwiseBatch,)
    svd.objective = Objective("bce")
    assert not svd.gives_logits
    assert isinstance(light.trained_part, InnerProduct)
    lists, items = Lists(1000, shared=True), dataset.train.items
    estimates = [
        RowBudget(model, math.inf, lists).step_bytes(items, 64) for model in (light, light.trained)
    ]
    assert estimates[0] == estimates[1]


def test_a_checkpoint_needs_no_data_and_names_trusted_classes_only(dataset):
    model = blend(dataset, KGAT, ITEMKNN)
    recipe, state = model.recipe(), model.state_dict()
    users = torch.arange(dataset.num_users)
    model.eval()
    again = rebuild(recipe, state).eval()
    assert torch.equal(again.score_all(users), model.score_all(users))
    assert again.recipe() == recipe
    for part, path in [
        ("trained", "os.system"),
        ("trained", "torch.nn.Linear"),
        ("closed_form", "kgrec.models.svd.SVD"),
    ]:
        wrong = {**recipe["arguments"], part: {**recipe["arguments"][part], "class": path}}
        with pytest.raises(CheckpointError, match=f"found the path '{path}'"):
            rebuild({**recipe, "arguments": wrong}, state)
    huge = {"shape": [10**12], "dtype": "int64"}
    closed = recipe["arguments"]["closed_form"]
    huge_part = {**closed, "arguments": {**closed["arguments"], "users": huge}}
    wrong = {**recipe["arguments"], "closed_form": huge_part}
    with pytest.raises(CheckpointError, match=r"found tensors of 8\d+ bytes"):
        rebuild({**recipe, "arguments": wrong}, state)
    with pytest.raises(CheckpointError, match="found a recipe without a class"):
        rebuild({**recipe, "arguments": {**recipe["arguments"], "trained": 3}}, state)


@pytest.mark.parametrize(
    ("trained", "method"), [(LIGHTCKG, "propagation"), (SVD, "steps"), (KGIN, "propagation")]
)
def test_both_models_fold_in(dataset, trained, method):
    model = blend(dataset, trained)
    assert model.fold_in_method == method
    history = Interactions.from_pairs(
        torch.tensor([0, 0, 1]), torch.tensor([3, 8, 5]), 2, dataset.num_items
    )
    users = torch.tensor([0, 1])
    expected = model.trained.fold_in(history).score_all(users)
    expected = expected + 5 * model.closed_form.fold_in(history).score_all(users)
    torch.testing.assert_close(model.fold_in(history).score_all(users), expected)


def test_relations_reweigh_the_trained_model(dataset):
    model, users = blend(dataset), torch.tensor([0, 7])
    weights = torch.full((dataset.num_relations,), 3.0)
    expected = model.trained.reweighed(weights).score_all(users)
    expected = expected + 5 * model.closed_form.score_all(users)
    twin = model.reweighed(weights)
    torch.testing.assert_close(twin.score_all(users), expected)
    assert not torch.allclose(twin.score_all(users), model.score_all(users))
    assert not blend(dataset, SVD).weighs_relations


def test_items_are_similar_as_the_trained_model_says(dataset):
    model = blend(dataset)
    assert torch.equal(model.similar_to(3), model.trained.similar_to(3))
    assert torch.equal(model.item_vectors(), model.trained.item_vectors())


def test_shares_of_liked_items_are_those_of_both_models(dataset):
    model, user = blend(dataset), 4
    (history,) = (dataset.train.of_users(torch.tensor([user]))[1],)
    item = next(v for v in range(dataset.num_items) if v not in history)
    whole = model.explain(user, item, history)
    light, ease = (part.explain(user, item, history) for part in (model.trained, model.closed_form))
    assert whole.method == LEAVE_ONE_OUT
    assert whole.score == pytest.approx(model.score_of(user, item))
    assert whole.parts == light.parts
    assert whole.together == pytest.approx(light.together + 5 * ease.together)
    assert {t.item for t in whole.terms if t.item is not None} == set(history.tolist())
    ours, theirs = ({t.item: t.share for t in each.terms if t.item} for each in (light, ease))
    for term in whole.terms:
        if term.item:
            expected = ours[term.item] + 5 * theirs[term.item]
            assert term.share == pytest.approx(expected)
    steps = {t.steps: t.share for t in light.terms if t.steps}
    assert steps == {t.steps: t.share for t in whole.terms if t.steps}
    first = model.explain(user, item, history, top=3)
    assert first.terms == whole.terms[:3]
    assert first.left_out == len(whole.terms) - 3


@pytest.mark.parametrize("trained", [SVD, KGIN])
def test_exact_shares_and_parts_add_up_to_the_score(dataset, trained):
    """KGIN has exact terms of its own; SVD has no cause and is one part."""
    model, user = blend(dataset, trained).eval(), 4
    history = dataset.train.of_users(torch.tensor([user]))[1]
    item = next(v for v in range(dataset.num_items) if v not in history)
    reasons = model.explain(user, item, history)
    assert reasons.method == EXACT
    total = sum(term.share for term in reasons.terms) + sum(reasons.parts.values())
    assert total == pytest.approx(reasons.score, abs=1e-5)
    assert {term.item for term in reasons.terms} == set(history.tolist())
    if trained is SVD:
        part = model.trained.score_of(user, item)
        assert reasons.parts == {"trained model": pytest.approx(part)}


@pytest.mark.parametrize(
    ("part", "settings", "message"),
    [
        ("trained", None, "trained: found None, expected class and settings of a model"),
        ("trained", {"d": 8}, "trained: found {'d': 8}, expected class and settings of a model"),
        ("trained", {**SVD, "class": "kgrec.no"}, "trained.class: found the path 'kgrec.no', "),
        ("trained", EASE_300, "trained.class: found 'kgrec.models.ease.EASE', expected a model th"),
        ("trained", {**SVD, "dd": 8}, "trained.dd: found an unknown key, expected one of d (did"),
        ("trained", {"class": f"{__name__}.Required"}, "trained.d: found nothing, expected a val"),
        ("trained", {**SVD, "d": 0}, "trained.d: found 0, expected an integer >= 1"),
        ("closed_form", SVD, "closed_form.class: found the path 'kgrec.models.svd.SVD', expected "),
        ("closed_form", {**EASE_300, "l2": -1}, "closed_form.l2: found -1, expected "),
    ],
)
def test_a_wrong_setting_is_named(dataset, part, settings, message):
    parts = {"trained": LIGHTCKG, "closed_form": EASE_300, part: settings}
    with pytest.raises(SettingError) as caught:
        Blend.from_dataset(dataset, **parts)
    assert user_error(caught.value).startswith(f"model.{message}")


def test_settings_of_the_parts_are_set_on_the_command_line(dataset):
    overrides = "model.trained.d=16", "model.closed_form.l2=[10,100]", "model.weight=2.5"
    model = instantiate(composed("model=blend", *overrides).model, dataset)
    assert isinstance(model.trained, LightCKG)
    assert isinstance(model.closed_form, EASE)
    assert (model.trained.embedding.shape[1], model.weight) == (16, 2.5)
    assert model.closed_form.l2 == [10, 100]
    other = "{class: kgrec.models.svd.SVD, d: 4}"
    cfg = composed("model=blend", "~model.trained", f"+model.trained={other}")
    assert instantiate(cfg.model, dataset).trained.arguments["d"] == 4
