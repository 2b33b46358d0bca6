"""``kgrec.fit``: frames in, a trained model out."""

import logging
import random

import polars as pl
import pytest
from hydra.core.hydra_config import HydraConfig

import kgrec
from kgrec.data.frames import as_frame
from kgrec.errors import ConfigError, DataError

SHORT = ["epochs=1", "trainer.accelerator=cpu"]


@pytest.fixture
def frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = random.Random(1)
    items = [f"{n:05d}" for n in range(30)]
    pairs = {(f"C{u:03d}", draw.choice(items)) for u in range(40) for _ in range(8)}
    users, bought = zip(*sorted(pairs), strict=True)
    interactions = pl.DataFrame({"user": users, "item": bought})
    products = pl.DataFrame({
        "item": items, "title": [f"Thing {n}" for n in range(30)],
        "color": [("red", "blue", None)[n % 3] for n in range(30)],
        "tags": [["a", "b"] if n % 2 else ["c"] for n in range(30)],
        "price": [n % 7 + 0.5 for n in range(30)],
    })  # fmt: skip
    return interactions, products


def test_frames_become_a_run_folder_that_recommends(frames, tmp_path, capsys):
    interactions, products = frames
    rec = kgrec.fit(interactions, items=products, overrides=SHORT, folder=tmp_path / "run")
    assert "epoch   1" in capsys.readouterr().out
    assert rec.items["item"][0] in set(products["item"])
    assert set(rec.items["name"]) <= set(products["title"])
    assert set(rec.data.ids.relations["relation"]) == {"color", "tags", "price"}
    assert rec.recommend("C001", k=3).height == 3
    assert "test/auc" in rec.metrics
    assert "epoch   1" in (tmp_path / "run" / "train.log").read_text()
    again = kgrec.load(tmp_path / "run")
    assert again.recommend("C001", k=3).equals(rec.recommend("C001", k=3))


def test_nothing_stays_set_after_a_fit(frames, capsys):
    interactions, products = frames
    before = HydraConfig.instance().cfg
    level, handlers = logging.getLogger("kgrec").level, logging.getLogger("kgrec").handlers[:]
    rec = kgrec.fit(interactions, items=products, model="popularity", overrides=SHORT, quiet=True)
    assert capsys.readouterr().out == ""
    assert rec.folder.parent.name == "fit"
    assert HydraConfig.instance().cfg is before
    assert logging.getLogger("kgrec").level == level
    assert logging.getLogger("kgrec").handlers == handlers


def test_mappings_are_frames_too(frames):
    interactions, products = frames
    rec = kgrec.fit(
        interactions.to_dict(as_series=False), items=products.to_dict(as_series=False),
        model="popularity", overrides=SHORT, quiet=True,
    )  # fmt: skip
    assert len(rec.users) == interactions["user"].n_unique()


def test_pandas_frames(frames):
    pandas = pytest.importorskip("pandas")
    interactions, products = (pandas.DataFrame(f.to_dict(as_series=False)) for f in frames)
    rec = kgrec.fit(interactions, items=products, model="popularity", overrides=SHORT, quiet=True)
    assert len(rec.items) == len(products)


def test_attributes_of_users_and_links_between_them_are_a_graph(frames):
    interactions, products = frames
    ids = interactions["user"].unique(maintain_order=True)
    users = pl.DataFrame({"user": ids, "city": ["Bern", "Rome"] * (len(ids) // 2)})
    friends = pl.DataFrame({"user": ids, "friend": ids.reverse()})
    rec = kgrec.fit(
        interactions, items=products, users=users, user_links=friends, model="kgcn_two_ends",
        overrides=SHORT, quiet=True,
    )  # fmt: skip
    assert rec.model.arguments["ends"] == "both"
    relations = rec.data.ids.user_relations
    assert set(relations["relation"]) == {"user.city", "user.user_links"}
    assert rec.recommend(ids[0], k=3).height == 3
    assert rec.explain(ids[0], rec.recommend(ids[0], k=1)["item"][0]).reasons.parts


def test_mistakes(frames, tmp_path):
    interactions, products = frames
    with pytest.raises(DataError, match="interactions: found a int, expected a frame"):
        kgrec.fit(5)
    with pytest.raises(DataError, match="items: found no rows"):
        kgrec.fit(interactions, items=products.head(0))
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="items: found no attribute of the items"):
        kgrec.fit(interactions, folder=tmp_path / "a")
    assert list((tmp_path / "a").iterdir()) == []
    with pytest.raises(ConfigError, match=r"model: found 'kgcm', expected.*did you mean kgcn"):
        kgrec.fit(interactions, items=products, model="kgcm", folder=tmp_path / "b")
    assert not (tmp_path / "b").exists()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x").touch()
    with pytest.raises(DataError, match="found a folder with files, expected a new folder"):
        kgrec.fit(interactions, items=products, folder=tmp_path / "c")


class Table(dict):
    """A frame as pandas has it, for cells that polars cannot hold."""

    iloc = None

    @property
    def columns(self):
        return list(self)


class NotAvailable:
    """As the NA of pandas: comparing it gives no truth."""

    def __ne__(self, other):
        return self

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None


def test_cells_of_pandas():
    frame = as_frame("x", Table(a=[1, NotAvailable()], b=["u", float("nan")], c=[[1, 2], []]))
    assert frame.to_dict(as_series=False) == {"a": [1, None], "b": ["u", None], "c": [[1, 2], []]}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"user": 1, "item": "a"}, "x: found columns that are no table"),
        ({"user": [1, 2], "item": ["a"]}, "x: found columns that are no table"),
        (
            {"user": [1], "item": [[[[[[[[[["a"]]]]]]]]]]},
            "x: found lists more than 8 levels deep in",
        ),
        ({"user": [{1}, {2}]}, "x: found values of a type that no table has in column user"),
    ],
)
def test_frames_that_are_no_table(frame, message):
    with pytest.raises(DataError, match=message):
        as_frame("x", frame)


def test_a_folder_with_an_apostrophe(frames, tmp_path):
    interactions, products = frames
    place = tmp_path / "it's, here"
    rec = kgrec.fit(interactions, items=products, model="popularity", overrides=SHORT,
                    folder=place, quiet=True)  # fmt: skip
    assert rec.folder == place
