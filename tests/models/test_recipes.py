"""A checkpoint from a stranger runs no code, and an odd one gives one clear error."""

import sys
from pathlib import Path

import pytest
import torch
from kgcn_cases import make

from kgrec.errors import CheckpointError
from kgrec.models.libfm_transe import LibFMTransE
from kgrec.models.recipes import rebuild, trusted_by
from kgrec.models.recommender import Recommender
from kgrec.models.svd import SVD
from kgrec.runs.checkpoints import load_recommender

EVIL = """
from pathlib import Path
import torch
from kgrec.models.kgcn.aggregators import Sum
from kgrec.models.svd import SVD

Path({mark!r}).touch()

class Model(SVD):
    pass

class Join(Sum):
    pass
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that importing ``evilmod``, or running a hostile recipe, creates."""
    mark = tmp_path / "mark"
    (tmp_path / "evilmod.py").write_text(EVIL.format(mark=str(mark)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evilmod", raising=False)
    return mark


def save(path: Path, recipe: object, state: dict[str, torch.Tensor]) -> Path:
    identity = {"recipe": recipe, "dataset": {}, "settings": {}}
    tensors = {f"recommender.{name}": value for name, value in state.items()}
    torch.save({"kgrec": identity, "state_dict": tensors, "epoch": 0}, path)
    return path


def hostile(mark: Path) -> dict[str, dict]:
    touch = {"_target_": "os.system", "command": f"touch {mark}"}
    return {
        "os.system": {"command": f"touch {mark}"},
        "subprocess.Popen": {"args": ["touch", str(mark)]},
        "shutil.rmtree": {"path": str(mark.parent)},
        "hydra.utils.instantiate": {"config": touch},
        "evilmod.Model": {"num_users": 2, "num_items": 3, "d": 4},
        "torch.nn.Linear": {"in_features": 2, "out_features": 3},
        "kgrec.models.svd.nn.Linear": {"in_features": 2, "out_features": 3},
        "kgrec.models.importing.importlib.import_module": {"name": "evilmod"},
        "kgrec.models.importing.import_object": {"path": "evilmod.Model"},
        "kgrec.models.recommender.Recommender": {},
        "kgrec.files.write_text": {"path": str(mark), "text": ""},
    }


@pytest.mark.parametrize("path", hostile(Path("x")))
def test_only_a_recommender_of_a_trusted_package_is_built(path, mark, tmp_path):
    recipe = {"class": path, "arguments": hostile(mark)[path]}
    file = save(tmp_path / "best.ckpt", recipe, SVD(2, 3, 4).state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_recommender(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: the model '{path}' cannot be rebuilt: found the path")
    assert "\n" not in message
    assert "evilmod" not in sys.modules
    assert not mark.exists()
    assert (tmp_path / "evilmod.py").exists()


@pytest.mark.parametrize(
    "aggregator",
    [
        "evilmod.Join",
        "os.system",
        {"_target_": "evilmod.Join"},
        {"_target_": "kgrec.models.kgcn.aggregators.Sum", "inputs": {"_target_": "evilmod.Join"}},
        ["evilmod.Join"],
    ],
)
def test_arguments_import_nothing_that_is_not_trusted(aggregator, mark):
    model = make("sum", 1, 4, "paper").float()
    recipe = model.recipe()
    recipe["arguments"]["aggregator"] = aggregator
    with pytest.raises(CheckpointError, match="cannot be rebuilt: "):
        rebuild(recipe, model.state_dict())
    assert "evilmod" not in sys.modules
    assert not mark.exists()


def test_a_trusted_package_is_imported(mark, tmp_path):
    model = make("sum", 1, 4, "paper").float()
    recipe = model.recipe()
    recipe["arguments"]["aggregator"] = {"_target_": "evilmod.Join"}
    file = save(tmp_path / "best.ckpt", recipe, model.state_dict())
    assert type(load_recommender(file, ["evilmod"]).aggregators[0]).__name__ == "Join"
    assert mark.exists()
    recipe = SVD(2, 3, 4).recipe() | {"class": "evilmod.Model"}
    file = save(tmp_path / "own.ckpt", recipe, SVD(2, 3, 4).state_dict())
    assert type(load_recommender(file, ["evilmod.Model"])).__name__ == "Model"
    with pytest.raises(CheckpointError, match=r"expected one in kgrec\.models, evil;"):
        load_recommender(file, ["evil"])


def test_a_run_trusts_its_own_classes_alone():
    model = make({"_target_": "kgrec.models.kgcn.aggregators.Sum"}, 1, 4, "paper")
    own = ("kgrec.models.kgcn.model.KGCN", "kgrec.models.kgcn.aggregators.Sum")
    assert trusted_by(model) == own
    assert trusted_by(SVD(2, 3, 4)) == ("kgrec.models.svd.SVD",)


class ReadsItself(SVD):
    """A model of the user's own whose constructor reads its parameters."""

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items)
        self.largest = float(self.item_embedding.weight.detach().max())


HUGE = 2**50


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ([], "found a recipe without a class"),
        ({}, "found a recipe without a class"),
        ({"class": ["kgrec.models.svd.SVD"]}, "found a recipe without a class"),
        ({"class": "SVD", "arguments": {}}, "found the path 'SVD', expected one in kgrec.models"),
        ({"class": "kgrec.models.svd.No", "arguments": {}}, "expected an importable path"),
        ({"class": "kgrec.models.no.SVD", "arguments": {}}, "expected an importable path"),
        ({"class": "kgrec.models.svd.SVD"}, "found arguments None, expected values by name"),
        ({"arguments": [2, 3, 4]}, r"found arguments \[2, 3, 4\], expected values by name"),
        ({"arguments": {1: 2}}, r"found arguments \{1: 2\}, expected values by name"),
        ({"arguments": {"num_users": 2}}, "missing .* required positional argument: 'num_items'"),
        ({"extra": 1}, "unexpected keyword argument 'extra'"),
        ({"d": 0}, "d: found 0, expected an integer >= 1"),
        ({"d": 5}, r"embedding.weight: found \[2, 4\], expected \[2, 5\]"),
        ({"d": [4]}, r"d: found \[4\], expected an integer"),
        ({"d": torch.ones(2)}, "d: found a Tensor, expected a plain value"),
        ({"d": {"shape": [HUGE], "dtype": "float32"}}, "found tensors of .* expected at most 80"),
        ({"d": {"shape": [1], "dtype": "float32"}}, "d: found tensor"),
        ({"d": {"shape": "x", "dtype": "float32"}}, "d: found .* expected a list of sizes"),
        ({"d": {"shape": [-1], "dtype": "float32"}}, "d: found .* expected a list of sizes"),
        ({"d": {"shape": [1], "dtype": "os"}}, "d: found .* the name of a torch dtype"),
        ({"d": {"shape": [1], "dtype": ["float32"]}}, "d: found .* the name of a torch dtype"),
        ({"num_users": HUGE}, f"num_users: found {HUGE}, expected an integer from 0 to 4"),
        ({"num_users": 10**30}, "cannot be rebuilt"),
        ({"num_users": -2}, "cannot be rebuilt"),
        ({"num_users": "2"}, "cannot be rebuilt"),
    ],
)
def test_odd_recipes_give_one_clear_error(recipe, message, tmp_path):
    model = SVD(2, 3, 4)
    if isinstance(recipe, dict) and recipe and "class" not in recipe:
        whole = model.recipe()
        if "arguments" not in recipe:
            recipe = {"arguments": whole["arguments"] | recipe}
        recipe = {"class": whole["class"], **recipe}
    with pytest.raises(CheckpointError, match=message):
        rebuild(recipe, model.state_dict())
    file = save(tmp_path / "odd.ckpt", recipe, model.state_dict())
    is_recipe = isinstance(recipe, dict) and isinstance(recipe.get("class"), str)
    if not is_recipe or not isinstance(recipe.get("arguments"), dict):
        message = "found a file that is not a checkpoint of kgrec, expected one of a run"
    with pytest.raises(CheckpointError, match=message) as caught:
        load_recommender(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("kgcn", {"H": HUGE}),
        ("kgcn", {"indptr": {"shape": [HUGE], "dtype": "int64"}}),
        ("kgcn", {"num_relations": HUGE}),
        (
            "kgcn",
            {"aggregator": {"_target_": "kgrec.models.kgcn.aggregators.Sum", "inputs": HUGE}},
        ),
        ("ripplenet", {"num_relations": 2**40}),
        ("ncf", {"num_layers": 10**9}),
    ],
)
def test_sizes_are_compared_before_anything_is_allocated(name, changes):
    from kgrec.models.ncf import NCF
    from kgrec.models.ripplenet import RippleNet

    models = {
        "kgcn": make("sum", 1, 4, "paper").float(),
        "ripplenet": RippleNet(3, 3, 6, 3, 7),
        "ncf": NCF(3, 4),
    }
    recipe = models[name].recipe()
    recipe["arguments"] |= changes
    with pytest.raises(CheckpointError, match="cannot be rebuilt: "):
        rebuild(recipe, models[name].state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_embedding.weight": torch.ones(1).expand(HUGE, 4)}, "found no tensor with numbers"),
        ({"item_embedding.weight": "text"}, "found no tensor with numbers"),
        ({"item_embedding.weight": torch.eye(3, 4).to_sparse()}, "found no tensor with numbers"),
        ({"more": torch.ones(1)}, "found an unknown tensor more"),
    ],
)
def test_odd_states_give_one_clear_error(change, message):
    model = SVD(2, 3, 4)
    with pytest.raises(CheckpointError, match=message):
        rebuild(model.recipe(), model.state_dict() | change)


def test_a_missing_tensor_is_named():
    model = SVD(2, 3, 4)
    state = {k: v for k, v in model.state_dict().items() if "item" not in k}
    with pytest.raises(CheckpointError, match=r"found no tensor item_embedding\.weight"):
        rebuild(model.recipe(), state)


def test_a_model_that_needs_memory_in_its_constructor_is_built_where_it_is_trusted():
    model = ReadsItself(2, 3)
    again = rebuild(model.recipe(), model.state_dict(), [__name__])
    assert isinstance(again, ReadsItself)


@pytest.mark.parametrize("kind", ["kgcn", "libfm_transe"])
def test_a_recipe_without_the_newer_arguments_is_rebuilt(kind):
    model: Recommender
    if kind == "kgcn":
        model, newer = make("sum", 2, 4, "paper").float(), ("K", "sampling")
    else:
        model, newer = LibFMTransE(3, 4, d=3, transe_d=5), ("transe_epochs", "held_out")
    recipe = model.recipe()
    for name in newer:
        del recipe["arguments"][name]
    users = items = torch.arange(3)
    again = rebuild(recipe, model.state_dict())
    assert torch.equal(again.score(users, items), model.score(users, items))


def test_a_hostile_best_checkpoint_beside_the_one_that_is_resumed(train, mark):
    run = train("model=svd", "epochs=1")
    assert run.code == 0, run.err
    best, last = (run.folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    checkpoint = torch.load(last, weights_only=True)
    for state in checkpoint["callbacks"].values():  # no later epoch replaces the best
        if "best_model_score" in state:
            state["best_model_score"] = torch.tensor(2.0)
    torch.save(checkpoint, last)
    checkpoint = torch.load(best, weights_only=True)
    checkpoint["kgrec"]["recipe"] = {
        "class": "os.system",
        "arguments": {"command": f"touch {mark}"},
    }
    torch.save(checkpoint, best)
    (run.folder / "metrics.json").unlink()  # as if the run had been interrupted
    again = train("model=svd", "epochs=2", f"ckpt_path={last}")
    assert again.code == 1
    assert f"{best}: the model 'os.system' cannot be rebuilt" in again.out + again.err
    assert not mark.exists()
