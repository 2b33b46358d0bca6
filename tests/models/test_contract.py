"""Every model of conf/model is found by itself and must keep the contract of Recommender."""

import inspect
import json
import math
import weakref
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Trained, composed
from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kgrec.data.batches import PointwiseBatch
from kgrec.data.interactions import Interactions
from kgrec.data.training_rows import training_rows
from kgrec.errors import SettingError
from kgrec.evaluation.candidates import full_candidates
from kgrec.evaluation.topk import top_k
from kgrec.models.inner_product import InnerProduct
from kgrec.models.objectives import Objective
from kgrec.models.recipes import rebuild
from kgrec.models.recommender import Recommender
from kgrec.runs.checkpoints import load_recommender
from kgrec.training.lazy_adam import LazyAdam
from kgrec.training.losses import step_loss
from kgrec.training.memory import RowBudget

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def configured(name: str, cache: Path, *overrides: str) -> DictConfig:
    """The settings of a model, with its own folder for what it caches."""
    cfg = composed(f"model={name}", *overrides)
    cfg.paths.cache = str(cache)
    return cfg.model


@pytest.fixture
def model(name, dataset, tmp_path) -> Recommender:
    torch.manual_seed(0)
    made = instantiate(configured(name, tmp_path), dataset)
    made.precompute(dataset)
    return made


def rows(dataset) -> PointwiseBatch:
    return PointwiseBatch(dataset.val.users, dataset.val.items, dataset.val.labels)


def batches(model, dataset) -> tuple:
    """One batch of 300 rows of each type that the loss takes."""
    kinds = type(model).batches
    sources = training_rows(kinds, dataset.train, dataset.graph, None, 1, seed=0)
    columns = [[column[:300] for column in source.draw(0)] for source in sources]
    return tuple(kind(*part) for kind, part in zip(kinds, columns, strict=True))


def test_there_are_models():
    assert "kgcn" in MODELS


def test_every_trained_model_has_a_test_of_its_own(model):
    if model.trainable:
        *folders, module = type(model).__module__.removeprefix("kgrec.models.").split(".")
        assert Path(ROOT, "tests", "models", *folders, f"test_{module}.py").is_file()


def test_every_model_is_in_the_readme(name):
    assert f"`{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_scores(model, dataset):
    users, items, _ = rows(dataset)
    scores = model.score(users, items)
    assert scores.shape == (len(users),)
    assert torch.isfinite(scores).all()
    assert torch.equal(model.score(users, items, model.encode()), scores)


def test_scoring_everything_equals_scoring_pairs(model, dataset):
    users = torch.tensor([0, 7, 7])
    everything = model.score_all(users, model.encode())
    assert everything.shape == (3, dataset.num_items)
    items = torch.arange(dataset.num_items)
    for row, user in zip(everything, users, strict=True):
        torch.testing.assert_close(row, model.score(user.expand_as(items), items))


def test_the_loss_reaches_every_parameter_and_falls(model, dataset):
    if not model.trainable:
        pytest.skip("nothing to train")
    taken = batches(model, dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(*taken)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert losses[-1] < 0.9 * losses[0]


def test_the_loss_is_a_mean_over_rows(model, dataset):
    if not model.trainable:
        pytest.skip("nothing to train")
    taken = batches(model, dataset)
    twice = [type(batch)(*(torch.cat([part, part]) for part in batch)) for batch in taken]
    torch.testing.assert_close(model.loss(*taken), model.loss(*twice))


def test_the_loss_is_an_objective_and_the_further_terms(model, dataset):
    if not model.trainable:
        pytest.skip("nothing to train")
    taken = batches(model, dataset)
    torch.manual_seed(0)  # a model may draw in every step
    own = model.loss(*taken)
    model.objective = Objective("bce" if isinstance(taken[0], PointwiseBatch) else "bpr")
    torch.manual_seed(0)
    torch.testing.assert_close(step_loss(model, taken), own)


def test_scores_of_lists_are_those_of_pairs(model, dataset):
    if not model.trainable:
        pytest.skip("nothing to train")
    users, items = dataset.train.users[::30], dataset.train.items[::30]
    lists = torch.stack([items, items.flip(0), (items + 1) % dataset.num_items], dim=1)
    torch.manual_seed(0)  # a model may draw in every step
    values = model.step_values()
    expected = [model.training_score(users, column, values) for column in lists.T]
    torch.testing.assert_close(
        model.score_lists(users, lists, values), torch.stack(expected, dim=1)
    )
    grid = model.score_grid(users, items, values)
    for column, item in enumerate(items):
        pairs = model.training_score(users, item.expand_as(users), values)
        torch.testing.assert_close(grid[:, column], pairs)


def test_a_recipe_and_the_state_rebuild_the_model(model, dataset):
    users, items, _ = rows(dataset)
    for in_place in (False, True):  # where tables are those of the state, not copies
        again = rebuild(model.recipe(), model.state_dict(), in_place=in_place)
        assert torch.equal(again.score(users, items), model.score(users, items))
        same = {t.data_ptr() for t in model.parameters()} & {
            t.data_ptr() for t in again.parameters()
        }
        tables = sum(isinstance(part, nn.Embedding) for part in model.modules())
        assert len(same) == (tables if in_place else 0)


def test_every_setting_is_in_the_recipe(model):
    """Settings of from_dataset are arguments of the constructor; a cache changes no result."""
    settings = set(inspect.signature(type(model).from_dataset).parameters) - {"dataset", "cache"}
    renamed = {"neighbors": "sampling"}  # the constructor's neighbors are a tensor
    recipe = model.recipe()["arguments"]
    assert {renamed.get(name, name) for name in settings} <= set(recipe)


# For each type of a setting in conf/model: values that no setting of this type may take.
WRONG = {
    bool: ["no", "false", 0, 1, None, []],
    int: ["abc", math.nan, math.inf, -1, True, None, 1.5, []],
    float: ["abc", math.nan, math.inf, -1, True, None, []],
    list: ["abc", math.nan, -1, True, None, [], ["abc"], [math.nan], [math.inf], [-1], [True]],
    str: [3, None, True, ["x"], "abc"],
}
PATHS = {"cache"}  # settings that are paths: any text is one


def test_a_value_that_cannot_work_is_one_clear_error(name, dataset, tmp_path):
    cfg = configured(name, tmp_path)
    plain = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: value for key, value in plain.items() if not key.startswith("_")}
    build = get_method(cfg._target_)
    assert {"dataset", *settings} == set(inspect.signature(build).parameters)
    for key, value in settings.items():
        kind = int if value == "all" else type(value)  # all: a number of neighbours, or the word
        for wrong in WRONG.get(kind, []) if key not in PATHS else []:
            with pytest.raises(SettingError) as caught:
                build(dataset, **settings | {key: wrong})
            assert str(caught.value).startswith(f"{key}: found {wrong!r}, expected ")
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("kgcn", "neighbors", "resampled"),
        ("kgcn", "K", 5),
        ("kgcn", "item_bias", True),
        ("kgcn", "history", "own"),
        ("kgnn_ls", "history", "shared"),
        ("kgnn_ls", "ls_weight", 0.25),
        ("kgnn_ls", "neighbors", "resampled"),
        ("libfm", "attributes", True),
        ("libfm_transe", "transe_epochs", 3),
        ("libfm_transe", "held_out", 0.5),
    ],
    indirect=["name"],
)
def test_another_setting_is_another_recipe(model, name, key, value, dataset, tmp_path):
    cfg = configured(name, tmp_path, f"model.{key}={value}")
    assert instantiate(cfg, dataset).recipe() != model.recipe()


INNER_PRODUCTS = {
    "svd", "bprmf", "lightgcn", "lightckg", "kgat", "kgin", "cke", "libfm", "libfm_transe", "per",
}  # fmt: skip


def test_the_product_of_factors_is_the_score(name, model, dataset):
    assert isinstance(model, InnerProduct) == (name in INNER_PRODUCTS)
    if not isinstance(model, InnerProduct):
        pytest.skip("its score is no inner product")
    with torch.no_grad():
        for parameter in model.parameters():  # biases are 0 before the training
            parameter.add_(0.3 * torch.randn_like(parameter))
    users, history = torch.tensor([0, 7, 7]), torch.tensor([3, 5])
    new = Interactions.from_pairs(torch.tensor([0, 1]), history, 2, dataset.num_items)
    for scorer, rows in ((model, users), (model.fold_in(new), torch.tensor([1, 0]))):
        expected = Recommender.score_all(scorer, rows)  # pair by pair
        assert isinstance(scorer, InnerProduct)
        for encoded in (None, scorer.encode()):
            a, b = scorer.user_factors(rows, encoded), scorer.item_factors(encoded)
            assert a.shape == (len(rows), b.shape[1])
            torch.testing.assert_close(a @ b.T, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(scorer.score_all(rows, encoded), expected)
            torch.testing.assert_close(b, model.item_factors())  # new users, the same items


def test_relations_are_reweighed_or_the_model_says_that_it_cannot(name, model, dataset):
    reweighing = ("kgcn", "kgcn_two_ends", "kgnn_ls", "lightckg", "blend")
    assert model.weighs_relations == (name in reweighing)
    ones, users = torch.ones(dataset.num_relations), torch.tensor([0, 7])
    if not model.weighs_relations:
        with pytest.raises(SettingError, match="expected a model with attention to relations"):
            model.reweighed(ones)
        return
    assert torch.equal(model.reweighed(ones).score_all(users), model.score_all(users))


def test_the_memory_estimate_has_one_number_per_row(model, dataset):
    estimate = model.bytes_per_row(dataset.train.items)
    assert estimate.shape == dataset.train.items.shape
    assert (estimate > 0).all() if model.trainable else (estimate == 0).all()
    assert model.fixed_bytes() >= 0


def test_the_memory_estimate_grows_with_batch_and_size(name, model, dataset, tmp_path):
    if not model.trainable:
        pytest.skip("nothing to train")
    estimates, size = [], "trained.d" if name == "blend" else "d"
    for d in (8, 16, 32):
        cfg = configured(name, tmp_path, f"model.{size}={d}")
        budget = RowBudget(instantiate(cfg, dataset), 1e9)
        steps = [budget.step_bytes(dataset.train.items, rows)[0] for rows in (10, 20, 40)]
        assert 0 < steps[0] < steps[1] < steps[2]
        estimates.append(steps[2])
    assert estimates[0] < estimates[1] < estimates[2]


def test_the_memory_estimate_is_near_the_measured_peak(model, dataset):
    if not model.trainable:
        pytest.skip("nothing to train")
    peaks = []
    for times in (10, 30):
        taken = [
            type(batch)(*(column.repeat(times) for column in batch))
            for batch in batches(model, dataset)
        ]
        rows = len(taken[0][0])
        model.loss(*taken).backward()
        with PeakMemory() as memory:
            model.loss(*taken).backward()
        peaks.append((memory.peak, rows))
    (low, few), (high, many) = peaks
    measured = (high - low) / (many - few)
    estimate = float(model.bytes_per_row(taken[0][1]).mean())
    assert measured / 2 < estimate < 6 * measured


class NoFloat64(TorchDispatchMode):
    """Refuses float64 tensors, as Apple's GPUs do."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.dtype is torch.float64:
                raise TypeError(f"{function}: this device has no float64")
        return result


@pytest.mark.parametrize("negatives", ["resampled", "static"])
def test_training_and_ranking_work_without_float64(model, dataset, negatives, monkeypatch):
    monkeypatch.setattr("kgrec.data.draws.SINGLE_PRECISION", ("cpu",))
    kinds, users = type(model).batches, dataset.val.users
    static = dataset.static_negatives if negatives == "static" else None
    sources = training_rows(kinds, dataset.train, dataset.graph, static, 1, seed=0)
    tables = [m for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    for table in tables:
        table.sparse = type(model).__name__ in ("KGCN", "SVD")
    budget = RowBudget(model, 1e4)
    with NoFloat64():
        if model.trainable:
            optimizer = LazyAdam(model.parameters())
            columns = [source.draw(0) for source in sources]
            taken = [kind(*part) for kind, part in zip(kinds, columns, strict=True)]
            budget.cut(tuple(taken))
            model.loss(*taken).backward()
            optimizer.step()
        with torch.no_grad():
            encoded = model.encode()
            model.score(users, dataset.val.items, encoded)
            candidates = full_candidates(dataset, "val")
            score_all = lambda users: model.score_all(users, encoded)  # noqa: E731
            top_k(score_all, users, 5, dataset.num_items, candidates.exclude)


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.alive: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.alive:
                    self.alive.add(key)
                    self.now += size
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.forget, key, size)
        return result

    def forget(self, key: int, size: int) -> None:
        self.alive.discard(key)
        self.now -= size


def test_a_run_leaves_a_checkpoint_that_scores_without_the_data(name, trained: Trained):
    folder = trained(f"model={name}")
    model = load_recommender(folder / "checkpoints" / "best.ckpt")
    assert 0 <= json.loads((folder / "metrics.json").read_text())["test/auc"] <= 1
    assert torch.isfinite(model.score(torch.tensor([0, 1]), torch.tensor([2, 3]))).all()
