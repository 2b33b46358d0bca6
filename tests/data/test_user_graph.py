"""The user graph: attributes of users and links between them, from the files to integer ids."""

from dataclasses import replace

import polars as pl
import pytest
import torch
from conftest import raw_tables

from kgrec.data import prepared_files
from kgrec.data.convert import convert
from kgrec.data.dataset import IdMaps, PreparedData
from kgrec.data.formats import recognise
from kgrec.data.prepare import prepare
from kgrec.data.protocols import clean, paper
from kgrec.data.raw_tables import RawTables
from kgrec.data.splits import RandomSplit
from kgrec.data.whole import whole
from kgrec.errors import ConfigError, DataError

USERS = [f"u{n}" for n in range(20)]
CSV = {
    "interactions.csv": "user,item\n" + "".join(
        f"{u},i{(n + k) % 8}\n" for n, u in enumerate(USERS) for k in range(4)
    ),
    "triples.csv": "head,relation,tail\n" + "".join(f"i{n},genre,g{n % 3}\n" for n in range(8)),
    "users.csv": "user,age,gender,pin\n" + "".join(
        f"{u},{20 + 2 * n // 3},{'fm'[n % 2]},x{n}\n" for n, u in enumerate([*USERS, "u99"])
    ),
    "user_attributes.csv": "user,relation,entity\nu0,city,Bern\nu1,city,Bern\nu2,city,Rome\n",
    "user_links.csv": "user,friend\nu0,u1\nu1,u0\nu2,u2\nu3,u99\n",
}  # fmt: skip
RECBOLE = {
    "a.inter": "user_id:token\titem_id:token\nu1\ti1\nu2\ti2\n",
    "a.kg": "head_id:token\trelation_id:token\ttail_id:token\ne1\tr\tx\ne2\tr\tx\n",
    "a.link": "item_id:token\tentity_id:token\ni1\te1\ni2\te2\n",
    "a.user": "user_id:token\tlikes:token_seq\tjob:token\nu1\tred  blue\twriter\nu2\tblue\t\n",
}


def folder(path, files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def read(path, files=CSV) -> RawTables:
    return recognise(folder(path, files)).read(path)


@pytest.fixture
def data(tmp_path) -> PreparedData:
    return prepare(read(tmp_path / "shop"), "shop", user_graph="use")


def named(data: PreparedData) -> set[tuple[str, str, str]]:
    """The triples of the user graph by their raw ids."""
    graph, entities = data.user_graph, data.ids.user_entities["entity"]
    relations = data.ids.user_relations["relation"]
    numbers = zip(*(part.tolist() for part in (graph.heads, graph.relations, graph.tails)),
                  strict=True)  # fmt: skip
    return {(entities[h], relations[r], entities[t]) for h, r, t in numbers}


def counted(data: PreparedData) -> dict[str, int]:
    return {entry.what: entry.count for entry in data.account.entries if entry.step == "user graph"}


def test_attributes_and_links_are_one_graph_whose_first_entities_are_the_users(data):
    graph = data.user_graph
    assert data.ids.user_entities["entity"][:20].to_list() == data.ids.users["user"].to_list()
    assert int(graph.heads.max()) < 20
    triples = named(data)
    assert {t for t in triples if t[1] in ("city", "user.link")} == {
        ("u0", "city", "Bern"), ("u1", "city", "Bern"), ("u0", "user.link", "u1"),
        ("u1", "user.link", "u0"),
    }  # fmt: skip
    assert {("u4", "user.gender", "user.gender=f"), ("u4", "user.age", "user.age=1/5")} <= triples
    assert data.counts()["user triples"] == len(graph) == len(triples) == 44
    assert data.counts()["user entities"] == graph.num_entities == 20 + 1 + 5 + 2
    names = dict(data.ids.user_entities.iter_rows())
    assert names["user.gender=f"] == "f"
    assert names["user.age=1/5"] == "20 to 22"
    assert names["u0"] is None
    # A link in both directions gives one neighbour in each.
    assert graph.neighborhood().degrees[:2].tolist() == [4, 4]


def test_what_is_left_out_is_counted(data):
    counts = counted(data)
    assert counts["values of users without a positive, dropped"] == 2
    assert counts["values that one user alone has, dropped"] == 1
    assert counts["links of users without a positive, dropped"] == 1
    assert counts["links of a user to the same user, dropped"] == 1
    assert counts["users without a neighbour in the user graph, kept"] == 0
    assert any(
        what.startswith("column of users not used: pin (looks like an id") for what in counts
    )


def test_nothing_changes_unless_the_graph_is_asked_for(tmp_path, data):
    plain = prepare(read(tmp_path / "plain"), "shop")
    assert plain.user_graph is None
    assert plain.ids.user_entities is None
    assert "user triples" not in plain.counts()
    assert sum(counted(plain).values()) == 3  # tables
    for protocol in (paper, clean):
        without, with_users = protocol(plain, RandomSplit()), protocol(data, RandomSplit())
        assert with_users.fingerprint.partition("+")[0] == without.fingerprint
        assert "+" in with_users.fingerprint
        graph = with_users.user_graph
        other = replace(with_users, user_graph=replace(graph, tails=graph.tails.flip(0)))
        assert other.fingerprint != with_users.fingerprint
        assert whole(with_users, data).user_graph is graph


def test_the_cache_and_the_run_folder_keep_the_graph(tmp_path, data):
    manifest = prepared_files.save(data, tmp_path) | {"name": "shop"}
    again = prepared_files.load(tmp_path, manifest)
    assert again.counts() == data.counts()
    assert named(again) == named(data)
    ids = IdMaps.load(tmp_path)
    assert ids.user_entities.equals(data.ids.user_entities)
    assert ids.user_relations.equals(data.ids.user_relations)


def test_columns_of_recbole_and_lists(tmp_path):
    raw = read(tmp_path / "a", RECBOLE)
    assert raw.user_columns.to_dict(as_series=False) == {
        "user": ["u1", "u2"], "likes": [["red", "blue"], ["blue"]], "job": ["writer", None]
    }  # fmt: skip
    data = prepare(raw, "a", user_graph="use")
    assert named(data) == {(user, "user.likes", "user.likes=blue") for user in ("u1", "u2")}
    assert convert(raw, tmp_path / "b", "recbole") == []
    assert recognise(tmp_path / "b").read(tmp_path / "b").user_columns.equals(raw.user_columns)
    assert convert(raw, tmp_path / "c", "parquet") == []
    with pytest.raises(DataError, match=r"List\(String\) in column likes of users"):
        convert(raw, tmp_path / "d", "csv")
    notes = convert(raw, tmp_path / "e", "csv", lossy=True)
    assert notes == ["2 columns of attributes of users, left out"]


def test_tables_of_users_are_converted(tmp_path):
    raw = read(tmp_path / "a")
    for form in ("csv", "parquet"):
        assert convert(raw, tmp_path / form, form) == []
        again = recognise(tmp_path / form).read(tmp_path / form)
        assert again.user_links.sort("user").equals(raw.user_links.sort("user"))
        assert again.user_columns.equals(raw.user_columns)
    with pytest.raises(DataError, match=r"(?s)attributes of users.*links between users"):
        convert(raw, tmp_path / "recbole", "recbole")
    notes = convert(raw, tmp_path / "recbole", "recbole", lossy=True)
    assert notes == ["3 attributes of users, left out", "4 links of users, left out"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_links.csv": "user,friend\nu0,\n"}, r"user_links.csv:2: found '', expected a value"),
        ({"user_links.csv": "user,age\nu0,1\n"}, "expected one for other"),
        ({"user_attributes.csv": "user,city\nu0,Bern\n"}, "expected one for relation"),
    ],
)
def test_malformed_files(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a", CSV | changes)


def test_a_users_file_of_another_kind_is_not_read(tmp_path):
    raw = read(tmp_path / "a", CSV | {"users.csv": "id,age\nu0,1\n"})
    assert raw.user_columns is None
    assert ("users.csv has no column user, not read", 1) in raw.counts


def test_settings_that_cannot_work():
    raw = raw_tables([("u", "i", 5.0)], [("i", "e")], [("e", "r", "x")])
    with pytest.raises(DataError, match=r"dataset.user_graph: found no table of users in test"):
        prepare(raw, "test", user_graph="use")
    with pytest.raises(ConfigError, match=r"user_graph: found True, expected ignore or use"):
        prepare(raw, "test", user_graph=True)
    links = pl.DataFrame({"user": ["u"], "relation": ["knows"], "other": ["x"]})
    with pytest.raises(DataError, match="found no attribute that two users of test share"):
        prepare(replace(raw, user_links=links), "test", user_graph="use")
    assert torch.is_tensor(prepare(replace(raw, user_links=links), "test").graph.heads)


def test_users_without_any_attribute_are_refused_in_words(tmp_path):
    """Fuzzing found ``pl.concat`` of no frame for a column of blanks."""
    files = CSV | {"users.csv": "user,age\n" + "".join(f"{user},\n" for user in USERS)}
    del files["user_attributes.csv"], files["user_links.csv"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    raw = recognise(tmp_path).read(tmp_path)
    with pytest.raises(DataError, match=r"dataset.user_graph: found no attribute that two users"):
        prepare(raw, "x", user_graph="use")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("users", pl.lit(1).alias("user"), "found no column user of texts"),
        ("users", pl.concat_list("user").alias("user"), "found no column user of texts"),
        ("users", pl.lit("u").alias("user"), "found a user twice"),
        ("items", pl.lit(None, pl.String).alias("item"), "found rows without item"),
        ("items", pl.lit(b"x").alias("name"), "found no column name of texts"),
        ("relations", pl.lit(None, pl.String).alias("relation"), "found rows without relation"),
        ("user_entities", pl.lit(0.5).alias("entity"), "found no column entity of texts"),
    ],
)
def test_ids_of_a_folder_of_a_stranger_are_checked(tmp_path, data, name, change, message):
    """A list as a user's id ended in a trace of torch, where a model was asked for scores."""
    data.ids.save(tmp_path / "ids")
    path = tmp_path / "ids" / f"{name}.parquet"
    pl.read_parquet(path).with_columns(change).write_parquet(path)
    with pytest.raises(DataError, match=f"{name}.parquet: {message}"):
        IdMaps.load(tmp_path / "ids")
