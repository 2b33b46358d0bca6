"""The approximate index: recall, exclusions, new users, refusals, and threads beside PyTorch's."""

import subprocess
import sys

import polars as pl
import pytest
import torch
from conftest import ROOT, Trained

import kgrec
from kgrec.data.interactions import Interactions
from kgrec.errors import ConfigError
from kgrec.inference import index
from kgrec.inference.index import ItemIndex

pytest.importorskip("faiss")
MODELS = (
    "svd",
    "bprmf",
    "lightgcn",
    "cke",
    "libfm",
    "libfm_transe",
    "per",
    "kgat",
    "kgin",
    "lightckg",
)


def clustered(n: int, d: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(50, d, generator=torch.Generator().manual_seed(7))
    picked = torch.randint(50, (n,), generator=generator)
    return centres[picked] + 0.5 * torch.randn(n, d, generator=generator)


@pytest.fixture(scope="module")
def items() -> torch.Tensor:
    return clustered(20_000)


@pytest.fixture(scope="module")
def built(items) -> ItemIndex:
    return ItemIndex(items)


def test_it_finds_most_of_the_best_items_with_their_scores(items, built):
    users = clustered(200, seed=1)
    scores, numbers, complete = built.best(users, 10)
    every = users @ items.T
    expected = every.topk(10).indices
    assert complete.all()
    found = torch.tensor(
        [len(set(a) & set(b)) for a, b in zip(numbers.tolist(), expected.tolist(), strict=True)]
    )
    assert found.sum() > 0.95 * 2000
    torch.testing.assert_close(scores, every.gather(1, numbers), rtol=1e-5, atol=1e-4)
    assert (scores.diff(dim=1) <= 0).all()


def test_excluded_items_are_left_out_and_replaced(items, built):
    users = clustered(30, seed=2)
    best = (users @ items.T).topk(200).indices
    counts = [0, 1, 50, 200] * 7 + [0, 1]  # users with few and with many excluded items
    pairs = [(u, i) for u, count in enumerate(counts) for i in best[u, :count].tolist()]
    exclude = Interactions.from_pairs(*torch.tensor(pairs).T, 30, len(items))
    scores, numbers, complete = built.best(users, 20, exclude)
    assert complete.all()
    every = users @ items.T
    every[exclude.users, exclude.items] = -torch.inf
    expected = every.topk(20).indices
    for row in range(30):
        assert not set(numbers[row].tolist()) & set(best[row, : counts[row]].tolist())
        assert len(set(numbers[row].tolist())) == 20
        assert len(set(numbers[row].tolist()) & set(expected[row].tolist())) >= 15
    torch.testing.assert_close(scores, every.gather(1, numbers), rtol=1e-5, atol=1e-4)


def test_a_large_part_of_the_catalogue_is_left_to_the_caller(items, built):
    users = clustered(2, seed=3)
    assert not built.best(users, 1001)[2].any()  # more than a twentieth
    exclude = Interactions.from_pairs(
        torch.zeros(1000, dtype=torch.int64), torch.arange(1000), 2, len(items)
    )
    assert built.best(users, 10, exclude)[2].tolist() == [False, True]


def test_lists_with_too_few_items_are_left_to_the_caller(items):
    small = ItemIndex(items)
    small._index.nprobe = 1
    lengths = torch.tensor([small._index.invlists.list_size(i) for i in range(141)])
    _, numbers, complete = small.best(clustered(300, seed=4), 400)
    assert int(lengths.min()) < 400
    assert 0 < int(complete.sum()) < 300
    assert (numbers[complete] >= 0).all()


@pytest.mark.parametrize("n", [1, 5, 40, 1000])
def test_small_catalogues(n, capfd):
    vectors = clustered(n)
    scores, numbers, complete = ItemIndex(vectors).best(vectors[:1], 1)
    assert capfd.readouterr() == ("", "")  # faiss warns of too few vectors
    if complete.all():
        assert float(scores) == pytest.approx(float(vectors[:1] @ vectors[numbers[0]].T))


@pytest.fixture
def everything(monkeypatch):
    """An index that reads all lists, also for a large part of a small catalogue."""
    monkeypatch.setattr(index, "LARGEST_SHARE", 1)
    monkeypatch.setattr(index, "LEAST_PROBES", 10**6)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_an_inner_product_recommends_by_the_index(
    name, trained: Trained, everything, monkeypatch
):
    run = trained(f"model={name}")
    exact, fast = kgrec.load(run), kgrec.load(run, index="faiss")
    asked = []
    best = ItemIndex.best
    monkeypatch.setattr(ItemIndex, "best", lambda *words: asked.append(best(*words)) or asked[-1])
    for words in (
        {"users": ["user3", "user0", "user3"]},
        {"users": None},
        {"users": "user3", "exclude_seen": False},
        {"history": {"anna": ["item1", "item2"], "ben": ["item5"]}},
    ):
        ours, theirs = fast.recommend(k=4, **words), exact.recommend(k=4, **words)
        assert ours.columns == theirs.columns
        assert ours.drop("item", "name", "score").equals(theirs.drop("item", "name", "score"))
        assert ours["score"].to_list() == pytest.approx(theirs["score"].to_list(), abs=1e-4)
    assert sum(int(complete.sum()) for *_, complete in asked) > 40
    count = len(asked)
    some = exact.items["item"][:5]
    assert fast.recommend("user3", 3, candidates=some).equals(
        exact.recommend("user3", 3, candidates=some)
    )
    assert len(asked) == count  # candidates are scored, not looked up


def test_rows_that_the_index_cannot_answer_are_ranked(trained: Trained):
    run = trained("model=svd")  # a small catalogue: every request is a large part of it
    words = {"users": ["user3", "user0"], "k": 5}
    assert (
        kgrec.load(run, index="faiss").recommend(**words).equals(kgrec.load(run).recommend(**words))
    )


@pytest.mark.parametrize("name", ["kgcn", "ncf", "popularity"])
def test_a_model_of_another_score_refuses(name, trained: Trained):
    message = f"index: found the model {name}, expected a model whose score is one inner product"
    with pytest.raises(ConfigError, match=message):
        kgrec.load(trained(f"model={name}"), index="faiss")


def test_an_index_that_cannot_be(trained: Trained, monkeypatch):
    with pytest.raises(ConfigError, match="index: found 'annoy', expected faiss"):
        kgrec.load(trained("model=svd"), index="annoy")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"found no package faiss, .* pip install 'kgrec\[ann\]'"):
        kgrec.load(trained("model=svd"), index="faiss")


def test_on_the_command_line(trained: Trained, kgrec):
    run = str(trained("model=svd"))
    words = ("recommend", run, "--user", "user3", "-k", "3", "--format", "csv")
    output = kgrec(*words, "--index", "faiss")
    assert output.code == 0, output.err
    assert output.out == kgrec(*words).out
    refused = kgrec("recommend", str(trained("model=kgcn")), "--user", "user3", "--index", "faiss")
    assert refused.code != 0
    assert "index: found the model kgcn" in refused.err


PROGRAM = """
import sys
{imports}
import threading
torch.set_num_threads(2)
from kgrec.inference.index import ItemIndex
g = torch.Generator().manual_seed(0)
items, users = torch.randn(20000, 32, generator=g), torch.randn(64, 32, generator=g)
every = users @ items.T
index = ItemIndex(items)
first = index.best(users, 10)
faults = []

def work(number):
    for _ in range(20):
        if number % 2:
            same = all(map(torch.equal, index.best(users, 10), first))
        else:
            same = torch.allclose(users @ items.T, every, atol=1e-4)
        faults.extend([] if same else [number])

threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not faults, faults
layer = torch.nn.Linear(32, 32)
layer(items).square().mean().backward()
assert torch.isfinite(layer.weight.grad).all()
assert torch.get_num_threads() == 2
print("good")
"""


@pytest.mark.slow
@pytest.mark.parametrize("imports", ["import torch\nimport faiss", "import faiss\nimport torch"])
def test_faiss_and_pytorch_compute_in_one_process(imports):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(imports=imports)],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "good"), done.stderr


def test_frames_of_the_index_have_the_schema_of_others(trained: Trained, everything):
    frame = kgrec.load(trained("model=svd"), index="faiss").recommend("user3", k=2)
    assert frame.schema == kgrec.load(trained("model=svd")).recommend("user3", k=2).schema
    assert frame["score"].dtype == pl.Float32
