"""Every model as a program: the same scores in ONNX Runtime and in torch's exported program."""

from dataclasses import replace

import onnxruntime
import polars as pl
import pytest
import torch
from conftest import ROOT, small
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from kgrec.data import text as encoders
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.evaluation.topk import top_k
from kgrec.exporting import onnx, torch_program
from kgrec.exporting.attention import Deep, OneHop
from kgrec.exporting.formulations import Direct, factors, formulation
from kgrec.exporting.programs import exported_score, exported_top_k
from kgrec.models.controls import Popularity
from kgrec.models.kgcn.aggregators import Sum
from kgrec.models.ncf import NCF
from kgrec.models.svd import SVD

NOT_EXPORTABLE = {"kgcn_two_ends"}
MODELS = sorted({path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")} - NOT_EXPORTABLE)
AGGREGATORS = ("sum", "concat", "neighbor", "avg")
KGCN = [
    ("kgcn", f"model.H={H}", f"model.K={K}", f"model.aggregator={aggregator}")
    for H in (1, 2) for K in (8, "all") for aggregator in AGGREGATORS
]  # fmt: skip
FURTHER = [
    ("kgcn", "model.H=3", "model.K=all"),
    ("kgcn", "model.scaling=released"),
    ("kgcn", "model.H=2", "model.K=all", "model.scaling=released"),
    ("kgcn", "model.K=3", "model.sampler=importance", "model.scaling=released"),
    ("kgcn", "model.K=3", "model.sampler=importance", "model.aggregator=avg"),
    ("kgcn", "model.H=2", "model.K=3", "model.sampler=importance"),
    ("kgcn", "model.H=3", "model.K=20", "model.sampler=importance"),
    ("kgcn", "model.H=2", "model.K=3", "model.sampler=ppr"),
    ("kgcn", "model.item_bias=true", "model.history=own"),
    ("kgcn", "model.H=2", "model.item_bias=true", "model.history=shared"),
    ("kgnn_ls", "model.K=all"),
    ("libfm", "model.attributes=true"),
    ("libfm", "model.bias=false", "model.linear=false"),
    ("ncf", "model.num_layers=1"),
    ("ripplenet", "model.update=replace", "model.all_hops=false"),
]
K = 7
QUICK = ("kgcn", "ease")


@pytest.fixture(scope="module")
def dataset():
    return clean(small(), RandomSplit())


def built(dataset, tmp_path, name, *overrides):
    """A model with parameters far from their small initial values."""
    torch.manual_seed(0)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [f"model={name}", f"paths.cache={tmp_path}", *overrides])
    model = instantiate(cfg.model, dataset)
    model.precompute(dataset)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def check_formulation(model):
    """The plain formulation equals the model on all pairs of all users."""
    users = torch.arange(60).repeat_interleave(40)
    items = torch.arange(40).repeat(60)
    plain = formulation(model)
    with torch.no_grad():
        expected = model.score(users, items)
        close(plain.pairs(users, items), expected)
        close(plain.catalogue(torch.arange(0, 60, 12)), expected.view(60, 40)[::12])


def check_programs(model, folder, order=None):
    """Both kinds of programs equal the model, for 1, 7 and 1000 rows."""
    order = torch.randperm(40) if order is None else order
    plain = formulation(model)
    for kind, lower_first in ((onnx, True), (torch_program, False)):
        programs = [
            (kind.SCORE, exported_score(plain)),
            (kind.TOP_K, exported_top_k(plain, order, K, lower_first)),
        ]
        kind.write(programs, folder)
        runtime = kind.Runtime(folder)
        for n in (1, 7, 1000):
            users, items = torch.arange(n) % 60, (torch.arange(n) * 7 + 3) % 40
            excluded = torch.rand(n, 40) < 0.5
            excluded[0] = torch.arange(40) >= 3  # fewer than k are left
            with torch.no_grad():
                close(runtime.score(users, items), model.score(users, items))
                best, scores = runtime.top_k(users, excluded)
                check_lists(model, users, excluded, best, scores)


def check_lists(model, users, excluded, best, scores):
    """Lists have the scores that the model's lists have, each item with its own score."""
    n = len(users)
    assert best.shape == scores.shape == (n, K)
    assert torch.equal(best == -1, scores == -torch.inf)
    assert int((best[0] >= 0).sum()) == 3
    every = model.score_all(users, model.encode()).masked_fill(excluded, -torch.inf)
    close(scores, every.sort(dim=1, descending=True).values[:, :K])
    row, column = torch.nonzero(best >= 0, as_tuple=True)
    close(scores[row, column], every[row, best[row, column]])
    assert not excluded[row, best[row, column]].any()
    distinct = torch.unique(row * 40 + best[row, column])
    assert len(distinct) == len(row)


@pytest.mark.parametrize("case", [(name,) for name in MODELS] + KGCN + FURTHER, ids="-".join)
def test_the_formulation_of_every_model_has_its_scores(case, dataset, tmp_path):
    model = built(dataset, tmp_path, *case)
    assert model.exportable
    check_formulation(model)


@pytest.mark.parametrize(
    "name",  # writing and reading programs takes seconds for each model
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS],
)
def test_every_model_is_exported_with_equal_scores(name, dataset, tmp_path):
    model = built(dataset, tmp_path, name)
    assert type(formulation(model)) is not Direct
    check_programs(model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        KGCN[1],
        KGCN[4],
        KGCN[-4],
        KGCN[-2],
        KGCN[-1],
        FURTHER[0],
        FURTHER[2],
        FURTHER[3],
        FURTHER[5],
    ],
    ids="-".join,
)
def test_kgcn_of_other_settings_is_exported_with_equal_scores(case, dataset, tmp_path):
    check_programs(built(dataset, tmp_path, *case), tmp_path)


@pytest.mark.slow
def test_kgcn_with_texts(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(
        encoders.ENCODERS, "usem3",
        encoders.Encoder(
            "numpy", "numpy", size=3,
            load=lambda: lambda texts: torch.tensor([[len(t), ord(t[-1]), 1.0] for t in texts]),
        ),
    )  # fmt: skip
    names = [f"entity {i}" for i in range(dataset.num_entities)]
    entities = dataset.ids.entities.with_columns(name=pl.Series(names))
    dataset = replace(dataset, ids=replace(dataset.ids, entities=entities))
    for H in (1, 2):
        model = built(dataset, tmp_path, "kgcn", "model.text=usem3", f"model.H={H}")
        assert model.text_features is not None
        check_formulation(model)
    check_programs(model, tmp_path)


def test_trees_where_they_are_small_else_layers(dataset, tmp_path):
    assert isinstance(formulation(built(dataset, tmp_path, "kgcn")), OneHop)
    small_tree = formulation(built(dataset, tmp_path, "kgcn", "model.H=2"))
    assert isinstance(small_tree, Deep)
    assert small_tree.by_tree
    assert not formulation(built(dataset, tmp_path, "kgcn", "model.H=3", "model.K=all")).by_tree


@pytest.mark.parametrize("H", [1, 2])
def test_entities_without_neighbours_and_a_wide_spread_of_attention(H, dataset, tmp_path):
    model = built(dataset, tmp_path, "kgcn", f"model.H={H}", "model.K=all")
    lonely = model.indptr.clone()
    lonely[1:11] = 0  # items 0 to 9 lose their neighbours
    cut = int(model.indptr[10])
    model.indptr = torch.where(lonely > 0, lonely - cut, 0)
    model.neighbors, model.relations = model.neighbors[cut:], model.relations[cut:]
    with torch.no_grad():
        model.relation_embedding.mul_(200)
    check_formulation(model)


def test_equal_scores_are_in_the_order_of_the_house(tmp_path):
    model = Popularity(40)
    model.counts[:] = torch.arange(40) // 9
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    check_programs(model, tmp_path, order)
    excluded = torch.zeros(2, 40, dtype=torch.bool)
    _, expected = top_k(model.score_all, torch.tensor([0, 1]), K, 40, order=order)
    for kind in (onnx, torch_program):
        best, _ = kind.Runtime(tmp_path).top_k(torch.tensor([0, 1]), excluded)
        assert torch.equal(best, expected)


def test_parameters_are_stored_once(tmp_path):
    """1000 users and items of 64 numbers: 512 kB in all, for both programs together."""
    model = SVD(1000, 1000, 64)
    plain, order = formulation(model), torch.arange(1000)
    sizes = {}
    for kind, lower_first in ((onnx, True), (torch_program, False)):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        programs = [
            (kind.SCORE, exported_score(plain)),
            (kind.TOP_K, exported_top_k(plain, order, K, lower_first)),
        ]
        kind.write(programs, folder)
        sizes[kind.__name__] = sum(file.stat().st_size for file in folder.iterdir())
    assert 512_000 < min(sizes.values()) <= max(sizes.values()) < 512_000 + 80_000


@pytest.mark.slow
def test_programs_have_no_paths_of_this_machine(dataset, tmp_path):
    check_programs(built(dataset, tmp_path, "kgcn", "model.H=2"), tmp_path)
    for file in tmp_path.iterdir():
        assert str(ROOT).encode() not in file.read_bytes(), file.name
        assert b"site-packages" not in file.read_bytes(), file.name


def test_a_torch_program_without_its_parameters_has_no_scores(dataset, tmp_path):
    check_programs(built(dataset, tmp_path, "svd"), tmp_path)
    program = torch.export.load(tmp_path / torch_program.SCORE).module()
    assert program(torch.tensor([0, 1]), torch.tensor([2, 3])).isnan().all()


@pytest.mark.slow
def test_unknown_numbers_are_errors(dataset, tmp_path):
    check_programs(built(dataset, tmp_path, "svd"), tmp_path)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        onnx.Runtime(tmp_path).score(torch.tensor([60]), torch.tensor([0]))


def test_the_model_stays_as_it_was(dataset, tmp_path):
    model = built(dataset, tmp_path, "kgcn", "model.H=2").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    formulation(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class OwnModel(NCF):
    """A model of the user's own with another score."""

    def score(self, users, items, encoded=None):
        return 2 * super().score(users, items) + 1


class OwnAggregator(Sum):
    """An aggregator of the user's own."""

    def forward(self, own, pooled):
        return self.activation(self.linear(own * pooled))


@pytest.mark.slow
def test_a_model_of_the_users_own_is_exported_by_its_own_score(tmp_path):
    model = OwnModel(60, 40, 4)
    assert factors(model) is None
    plain = formulation(model)
    assert isinstance(plain, Direct)
    users, items = torch.arange(40), torch.arange(40)
    close(plain.pairs(users, items), model.score(users, items))
    onnx.write([(onnx.SCORE, exported_score(plain)),
                (onnx.TOP_K, exported_top_k(plain, items, K, True))], tmp_path)  # fmt: skip
    runtime = onnx.Runtime(tmp_path)
    with torch.no_grad():
        close(runtime.score(users, items), model.score(users, items))
        best, scores = runtime.top_k(users, torch.zeros(40, 40, dtype=torch.bool))
        close(scores[:, 0], model.score(users, best[:, 0]))


@pytest.mark.parametrize("H", [1, 2])
def test_an_aggregator_of_the_users_own(H, dataset, tmp_path):
    model = built(dataset, tmp_path, "kgcn", f"model.H={H}")
    for number, old in enumerate(model.aggregators):
        model.aggregators[number] = OwnAggregator(model.d, old.activation)
    check_formulation(model)
