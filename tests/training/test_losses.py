"""Every model can be trained on every objective, and keeps the further terms of its loss."""

import pytest
import torch
from conftest import Train, composed, small
from hydra.utils import instantiate

from kgrec.data.batches import ListwiseBatch, PairwiseBatch, PointwiseBatch
from kgrec.data.interactions import Interactions
from kgrec.data.listwise_rows import InBatchRows
from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.data.training_rows import training_rows
from kgrec.errors import ConfigError
from kgrec.models.cke import CKE
from kgrec.models.kgcn.model import KGCN
from kgrec.models.lightgcn import LightGCN
from kgrec.models.objectives import Objective, softmax
from kgrec.models.recommender import Recommender
from kgrec.models.svd import SVD
from kgrec.pipeline.parts import make_objective
from kgrec.runs.checkpoints import load_recommender
from kgrec.training.losses import step_loss
from kgrec.training.memory import Lists, RowBudget


@pytest.fixture(scope="module")
def dataset():
    return paper(small(), RandomSplit())


def batch_of(model, dataset, in_batch: bool = False, ratio: int = 3) -> tuple:
    sampler = {"lists": InBatchRows} if in_batch else {}
    sources = training_rows(
        model.step_batches, dataset.train, dataset.graph, None, ratio, 0, **sampler
    )
    return tuple(next(iter(source.batches(0, 30))) for source in sources)


def trained_on(model, name: str, **settings):
    model.objective = Objective(name, **settings)
    return model.double()


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("cls", [SVD, CKE, LightGCN, KGCN])
def test_softmax_of_lists_is_that_of_pairs(dataset, cls, in_batch):
    torch.manual_seed(0)
    model = trained_on(cls.from_dataset(dataset, d=4), "softmax", temperature=0.5)
    batches = batch_of(model, dataset, in_batch)
    batch = batches[0]
    found = step_loss(model, batches)
    columns = [
        model.score(batch.users, batch.negatives[:, k]) for k in range(batch.negatives.shape[1])
    ]
    positive = model.score(batch.users, batch.positives)
    expected = softmax(positive, torch.stack(columns, 1), batch.log_q, 0.5)
    if cls is CKE:
        expected = expected + model.kg_weight * model.kge.loss(batches[1])
    torch.testing.assert_close(found, expected)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(found, parameters)
    for one, other in zip(gradients, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, other)


def test_a_propagation_is_computed_once_in_a_step(dataset, monkeypatch):
    model = trained_on(LightGCN.from_dataset(dataset, d=4), "softmax")
    calls = []
    encode = LightGCN.encode
    monkeypatch.setattr(LightGCN, "encode", lambda self: calls.append(1) or encode(self))
    step_loss(model, batch_of(model, dataset))
    step_loss(model, batch_of(model, dataset, in_batch=True))
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["ripplenet", "kgnn_ls", "cke"])
@pytest.mark.parametrize("objective", ["bce", "bpr", "softmax"])
def test_further_terms_are_kept(dataset, name, objective):
    model = instantiate(composed(f"model={name}").model, dataset)
    model.precompute(dataset)
    model.objective = Objective(objective)
    batches = batch_of(model, dataset)
    whole = step_loss(model, batches)
    type_of = type(model)
    without = type("Without", (type_of,), {"regularizer": Recommender.regularizer})
    model.__class__ = without
    plain = step_loss(model, batches)
    model.__class__ = type_of
    batch, *others = batches
    if objective == "bce":
        rows = batch
    else:
        negatives = batch.negatives.view(len(batch.users), -1)
        users = batch.users.repeat_interleave(negatives.shape[1])
        labels = torch.cat([torch.ones(len(batch.users)), torch.zeros(len(users))])
        items = torch.cat([batch.positives, negatives.flatten()])
        rows = PointwiseBatch(torch.cat([batch.users, users]), items, labels)
    torch.testing.assert_close(whole - plain, model.regularizer(rows, *others))
    assert whole != plain


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize("cls", [SVD, KGCN])
def test_pieces_of_lists_add_up(dataset, cls, in_batch):
    model = trained_on(cls.from_dataset(dataset, d=4), "softmax")
    (batch,) = batch_of(model, dataset, in_batch)
    step_loss(model, (batch,)).backward()
    expected = [p.grad for p in model.parameters()]
    budget = RowBudget(model, 1e9, Lists(batch.negatives.shape[1], in_batch))
    whole, _ = budget.step_bytes(batch.positives, len(batch.users))
    budget.budget = whole / 4
    pieces = budget.cut((batch,))
    assert 3 <= len(pieces) <= 7
    assert budget.pieces(batch.positives, len(batch.users)) == 4
    model.zero_grad()
    for piece, share in pieces:
        assert isinstance(piece[0], ListwiseBatch)
        (step_loss(model, piece) * share).backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_pair_of_a_pointwise_model_has_two_rows(dataset):
    model, items = SVD.from_dataset(dataset), dataset.train.items
    alone = RowBudget(model, 1e9).step_bytes(items, 10)[0]
    model.objective = Objective("bpr")
    assert RowBudget(model, 1e9).step_bytes(items, 10)[0] == 2 * alone
    assert model.step_batches == (PairwiseBatch,)


def test_a_loss_whose_terms_would_be_lost_is_refused(dataset):
    class Other(SVD):
        batches = CKE.batches

    with pytest.raises(ConfigError, match="loss: found bpr, expected own: Other has further"):
        make_objective(composed("loss=bpr"), Other.from_dataset(dataset))
    assert make_objective(composed("loss=own"), Other.from_dataset(dataset)) is None
    assert make_objective(composed("loss=bpr"), CKE.from_dataset(dataset)) == Objective("bpr")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "loss"), [("kgcn", "bce"), ("bprmf", "bpr")])
def test_the_loss_of_a_model_by_its_name_is_its_own(model, loss, train: Train):
    own = train(f"model={model}", folder="own")
    named = train(f"model={model}", f"loss={loss}", folder="named")
    assert (own.code, named.code) == (0, 0), named.out
    same = [k for k in own.metrics if "seconds" not in k and "memory" not in k]
    assert {k: own.metrics[k] for k in same} == {k: named.metrics[k] for k in same}


def test_logits_follow_from_the_loss(dataset, train: Train):
    run = train("model=lightgcn", "loss=bce", "ranking=none", "epochs=1")
    assert run.code == 0, run.out
    assert {"test/f1", "test/accuracy", "test/log_loss"} <= run.metrics.keys()
    loaded = load_recommender(run.folder / "checkpoints" / "best.ckpt")
    assert loaded.gives_logits
    assert loaded.objective == Objective("bce")
    model = SVD.from_dataset(dataset)
    assert model.gives_logits
    model.objective = Objective("softmax")
    assert not model.gives_logits


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["resampled", "popularity", "in_batch"])
@pytest.mark.parametrize("model", ["kgcn", "libfm", "lightgcn", "cke", "ripplenet"])
def test_models_train_on_softmax(model, negatives, train: Train):
    ratio = [] if negatives == "in_batch" else ["negatives.ratio=8"]
    settings = ["loss=softmax", f"negatives={negatives}", *ratio, "optimizer=lazy_adam"]
    run = train(f"model={model}", *settings, "epochs=6", "optimizer.lr=0.02", "batch_size=64")
    assert run.code == 0, run.out
    assert run.metrics["test/auc"] > 0.6
    assert "test/f1" not in run.metrics


def test_new_users_are_folded_in_by_the_objective(dataset):
    model = SVD.from_dataset(dataset, d=4)
    history = dataset.train.take(dataset.train.users < 3)
    history = Interactions(history.users, history.items, 3, 40)
    users = torch.arange(3)
    own = model.fold_in(history).score_all(users)
    model.objective = Objective("bce")
    assert torch.equal(model.fold_in(history).score_all(users), own)
    model.objective = Objective("softmax")
    assert not torch.allclose(model.fold_in(history).score_all(users), own)
