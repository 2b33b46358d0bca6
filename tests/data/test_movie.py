"""MovieLens-20M's path, on a synthetic twin in the same files behind a local HTTP server."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import Train, composed
from omegaconf import DictConfig, OmegaConf

from kgrec.data.dataset import PreparedData
from kgrec.data.loading import load
from kgrec.data.sources.public_files import file_sha256, git_blob_id
from kgrec.data.synthetic.shapes import SHAPES
from kgrec.data.synthetic.twins import write_twin
from kgrec.errors import DataError

SCALE = 1 / 32
FILES = ("item_index2entity_id.txt", "kg.txt")


class Server:
    """Serves a folder; ``cut`` files end in the middle, ``gone`` ones are not there."""

    def __init__(self, folder: Path) -> None:
        self.cut: set[str] = set()
        self.gone: set[str] = set()
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                outer.asked.append(name)
                if name in outer.gone:
                    self.send_error(404)
                    return
                body = (folder / name).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if name in outer.cut else body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """What GroupLens and the authors publish: ml-20m.zip, the index, the graph."""
    folder = tmp_path_factory.mktemp("published")
    write_twin(folder / "twin", "movie", SCALE, "released_raw", seed=5)
    movies = 'movieId,title,genres\n1,"American President, The (1995)",Comedy\n'
    with zipfile.ZipFile(folder / "ml-20m.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "twin" / "ratings.csv", "ml-20m/ratings.csv")
        archive.writestr("ml-20m/movies.csv", movies)
    for name in FILES:
        (folder / "twin" / name).rename(folder / name)
    return folder


@pytest.fixture
def server(published):
    found = Server(published)
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("KGREC_DATA_DIR", raising=False)


@pytest.fixture
def cfg(server, published, tmp_path) -> DictConfig:
    """conf/dataset/movie.yaml with the twin's addresses and hashes."""
    made = composed("dataset=movie")
    made.paths.data = str(tmp_path / "data")
    (source,) = made.dataset.sources
    source.archive.url = f"{server.address}/ml-20m.zip"
    source.archive.md5 = hashlib.md5((published / "ml-20m.zip").read_bytes()).hexdigest()
    for name in FILES:
        source.files[name].url = f"{server.address}/{name}"
    source.files["item_index2entity_id.txt"].sha256 = file_sha256(published / FILES[0])
    source.files["kg.txt"].git_blob = git_blob_id(published / "kg.txt")
    return made.dataset


def loaded(cfg: DictConfig) -> PreparedData:
    return load(**{k: v for k, v in OmegaConf.to_container(cfg, resolve=True).items()
                   if k != "_target_"})  # fmt: skip


def test_the_real_addresses_are_pinned():
    dataset = composed("dataset=movie").dataset
    (source,) = dataset.sources
    assert source.archive.url == "https://files.grouplens.org/datasets/movielens/ml-20m.zip"
    assert len(source.archive.md5) == 32
    for name in FILES:
        assert "/hwwang55/KGCN/950f73420a6e1c13e6c86be8f2a4d619a2c76fc9/" in source.files[name].url
    assert dict(dataset.table1) == {
        "users": 138159, "items": 16954, "positives": 6750811, "entities": 102569,
        "relations": 32, "triples": 499474,
    }  # fmt: skip


def test_everything_is_fetched_prepared_and_named(cfg, server, tmp_path):
    data = loaded(cfg)
    shape = SHAPES["movie"].scaled(SCALE)
    assert tuple(data.counts().values()) == (
        shape.users, shape.items, shape.positives, shape.entities, shape.relations, shape.triples
    )  # fmt: skip
    assert data.times is not None
    names = data.ids.items.filter(data.ids.items["item"] == "1")["name"].to_list()
    assert names in ([], ["American President, The (1995)"])
    assert sorted(server.asked) == ["item_index2entity_id.txt", "kg.txt", "ml-20m.zip"]
    assert sorted(p.name for p in (tmp_path / "data" / "movie").iterdir()) == [
        "item_index2entity_id.txt", "kg.txt", "movies.csv", "ratings.csv",
    ]  # fmt: skip
    loaded(cfg)
    assert len(server.asked) == 3  # nothing is fetched again


@pytest.mark.parametrize("name", ["ml-20m.zip", *FILES])
@pytest.mark.parametrize("fault", ["cut", "gone"])
def test_an_interrupted_download_leaves_nothing_and_can_be_tried_again(
    fault, name, cfg, server, tmp_path
):
    getattr(server, fault).add(name)
    with pytest.raises(DataError, match="its files were not found and could not be fetched") as e:
        loaded(cfg)
    assert f"{server.address}/{name}" in str(e.value)
    assert list((tmp_path / "data" / "movie").iterdir()) == []
    getattr(server, fault).clear()
    assert len(loaded(cfg).graph) > 0


def test_an_archive_with_other_bytes_is_refused(cfg, tmp_path):
    cfg.sources[0].archive.md5 = "0" * 32
    with pytest.raises(DataError, match=r"ml-20m\.zip: found md5 \w+, expected 0{32}"):
        loaded(cfg)
    assert list((tmp_path / "data" / "movie").iterdir()) == []


@pytest.mark.parametrize("content", [b"no zip at all", b"PK\x03\x04 half of one"])
def test_a_broken_archive_is_refused(content, cfg, tmp_path):
    place = tmp_path / "data" / "movie"
    place.mkdir(parents=True)
    (place / "ml-20m.zip").write_bytes(content)
    cfg.sources[0].archive.md5 = hashlib.md5(content).hexdigest()
    with pytest.raises(DataError, match=r"ml-20m\.zip: .*expected a whole zip archive"):
        loaded(cfg)
    assert [p.name for p in place.iterdir()] == ["ml-20m.zip"]


def test_an_archive_that_lies_there_is_not_fetched(cfg, server, published, tmp_path, monkeypatch):
    place = tmp_path / "mine" / "movie"
    place.mkdir(parents=True)
    monkeypatch.setenv("KGREC_DATA_DIR", str(tmp_path / "mine"))
    for name in ("ml-20m.zip", "item_index2entity_id.txt"):
        (place / name).write_bytes((published / name).read_bytes())
    assert len(loaded(cfg).graph) > 0
    assert server.asked == ["kg.txt"]


@pytest.mark.slow
def test_the_user_s_own_copy_may_differ_and_trains(published, train: Train, tmp_path):
    """dataset.root takes files as they are, and says that they are not the published ones."""
    root = tmp_path / "copy"
    root.mkdir()
    for name in FILES:
        (root / name).write_bytes((published / name).read_bytes())
    (root / "ratings.csv").write_bytes((published / "twin" / "ratings.csv").read_bytes())
    run = train(
        "dataset=movie", f"dataset.root={root}", "epochs=1", "logger=csv", "model.K=2", "threads=1",
        "protocol=clean", "split=temporal", "split.scope=user", small=False,
    )  # fmt: skip
    assert run.code == 0, run.out
    assert "is not the published file" in run.out
    assert run.metrics["test/auc"] > 0.6
