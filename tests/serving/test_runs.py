"""The served runs: names, ids and titles, and runs that are loaded anew."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from pathlib import Path

import httpx
import polars as pl
import pytest
from conftest import Trained
from http_server import Server, running

import kgrec
from kgrec.errors import ConfigError, KgrecError
from kgrec.inference.raw_ids import RawIds
from kgrec.serving.app import create_app
from kgrec.serving.errors import RequestError
from kgrec.serving.lookup import Lookup
from kgrec.serving.middleware.access import VARIABLE
from kgrec.serving.runs import ServedRuns, named_places
from kgrec.serving.settings import ServeSettings


@pytest.mark.parametrize(
    ("runs", "places"),
    [
        (("logs/a",), {"default": "logs/a"}),
        (("logs/a", "logs/b/"), {"default": "logs/a", "b": "logs/b/"}),
        (("new=logs/a", "old=logs/b"), {"new": "logs/a", "old": "logs/b"}),
        (("sweeps/model=svd",), {"default": "sweeps/model=svd"}),
    ],
)
def test_names_of_runs(runs, places):
    assert named_places(runs) == places


def test_a_folder_with_an_equals_sign_is_a_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert named_places(("model=svd",)) == {"model": "svd"}
    (tmp_path / "model=svd").mkdir()
    assert named_places(("model=svd",)) == {"default": "model=svd"}


@pytest.mark.parametrize("runs", [(), ("a=x", "a=y"), ("x/a", "y/b", "z/b")])
def test_names_that_cannot_be(runs):
    with pytest.raises(ConfigError, match="runs: found"):
        named_places(runs)
    with pytest.raises(ConfigError, match="runs: found"):
        create_app(ServeSettings(runs=runs))


def test_loaded_runs_are_no_work_for_the_garbage_collector(kgcn):
    gc.unfreeze()
    ServedRuns(ServeSettings(runs=(str(kgcn),))).load()
    assert gc.get_freeze_count() > 100_000
    gc.unfreeze()


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(KgrecError, match="found no such folder"):
        ServedRuns(ServeSettings(runs=(str(tmp_path / "none"),))).load()


def test_an_index_of_items(kgcn: Path, trained: Trained):
    pytest.importorskip("faiss")
    folder = trained("model=svd")
    exact = kgrec.load(folder).recommend("user3", k=2)["item"].to_list()
    with running(folder, index="faiss") as server:
        assert server.rec.ranker.index is not None
        answer = server.ok("/recommend", users=["user3"], k=2)
        assert [item["item"] for item in answer["results"][0]["items"]] == exact
    with pytest.raises(KgrecError, match="expected a model whose score is one inner product"):
        ServedRuns(ServeSettings(runs=(str(kgcn),), index="faiss")).load()


def test_before_the_runs_are_loaded():
    runs = ServedRuns(ServeSettings(runs=("x",)))
    with pytest.raises(RequestError, match="no loaded run yet") as refusal:
        runs.get(None)
    assert refusal.value.status == 503


def test_ids_and_titles_are_found_as_by_the_loaded_model():
    ids = pl.Series(["1", "Alien", "3", "4"])
    names = pl.Series(["Alien", "Heat ", None, "HEAT"])
    lookup = Lookup(RawIds("item", ids, names), pl.Series([1, 2, 3, 4]))
    raw = RawIds("item", ids, names)
    assert lookup.numbers(["1", "Alien", "3"], "") == raw.numbers(["1", "Alien", "3"]).tolist()
    assert lookup.numbers([" alien"], "") == raw.numbers([" alien"]).tolist() == [0]
    with pytest.raises(RequestError, match=r"key: found the name 'heat' of 2 items, .* '4'"):
        lookup.numbers(["heat"], "key")


def test_the_order_of_matches():
    ids = pl.Series([str(n) for n in range(7)])
    names = pl.Series(["Heat", "Heater", "In the heat", "Wheat", "heat", "Cold", None])
    positives = pl.Series([1, 9, 5, 99, 3, 1000, 7])
    lookup = Lookup(RawIds("item", ids, names), positives)
    assert lookup.search("HEAT", 10) == ([4, 0, 1, 2, 3], 5)
    assert lookup.search("heat", 2) == ([4, 0], 5)
    assert lookup.search("6", 10) == ([6], 1)
    assert lookup.search("", 3) == ([5, 3, 1], 7)
    assert lookup.search("(", 3) == ([], 0)


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are loaded anew only by who has the token."""
    monkeypatch.setenv(VARIABLE, "secret")


@pytest.fixture
def swapped(kgcn: Path, trained: Trained, tmp_path: Path):
    """A link to a run, and a function that makes it lead to another one."""
    link = tmp_path / "current"
    link.symlink_to(kgcn)

    def swap() -> None:
        link.unlink()
        link.symlink_to(trained("model=popularity"))

    return link, swap


def test_a_reload_serves_what_the_run_names_by_now(swapped):
    link, swap = swapped
    with running(link) as server:
        before = server.serving.runs.get(None)
        assert before.rec.name == "kgcn"
        swap()
        assert server.ok("/recommend", users=["user3"])["model"] == "kgcn"
        response = server.client.post("/admin/reload")
        assert response.json() == {
            "runs": [{"name": "default", "folder": str(link), "loaded": True, "error": None}]
        }
        assert server.ok("/recommend", users=["user3"])["model"] == "popularity"
        gone = weakref.ref(before)
        del before
        gc.collect()
        assert gone() is None  # its memory is free again


def test_a_run_that_cannot_be_loaded_is_served_as_before(kgcn, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(kgcn, copy)
    with running(copy) as server:
        (copy / "metrics.json").unlink()
        (outcome,) = server.client.post("/admin/reload").json()["runs"]
        assert not outcome["loaded"]
        assert "expected the folder of a finished run" in outcome["error"]
        assert server.ok("/recommend", users=["user3"])["model"] == "kgcn"


def test_no_request_is_lost_while_runs_are_swapped(swapped):
    link, swap = swapped
    with running(link) as server:
        answers: list[tuple[int, str]] = []
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(
                base_url=server.address, timeout=60, headers=server.client.headers
            ) as client:
                while not stop.is_set():
                    response = client.post("/recommend", json={"users": ["user3"]})
                    answers.append((response.status_code, response.json()["model"]))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        swap()
        assert server.client.post("/admin/reload").json()["runs"][0]["loaded"]
        stop.set()
        for thread in threads:
            thread.join(60)
        assert {status for status, _ in answers} == {200}
        assert {model for _, model in answers} <= {"kgcn", "popularity"}
        assert len(answers) > 4


def test_ready_until_the_server_stops(server: Server):
    assert server.ok("/health") == {"status": "alive"}
    assert server.ok("/ready") == {"status": "ready"}
    server.serving.stopping = True
    try:
        assert "found a server that stops" in server.error("/ready", 503)
    finally:
        server.serving.stopping = False
