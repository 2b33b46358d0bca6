"""Finding and fetching raw files, against a local HTTP server that can misbehave."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from files import FINAL, RAW
from files import write as put

from kgrec.data.sources import fetching
from kgrec.data.sources.locate import locate
from kgrec.data.sources.public_files import RawFile, Source, file_sha256, git_blob_id
from kgrec.errors import ConfigError, DataError


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Server:
    """Serves RAW; files in ``broken`` are truncated, files in ``wrong`` have other content."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.wrong: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                if name not in RAW:
                    self.send_error(404)
                    return
                body = RAW[name].encode()
                if name in outer.wrong:
                    body = body[::-1]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if name in outer.broken else body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def source(self) -> Source:
        return Source(
            "released_raw",
            tuple(RawFile(n, sha256=sha256(t), url=f"{self.address}/{n}") for n, t in RAW.items()),
        )


@pytest.fixture
def server():
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv("KGREC_DATA_DIR", raising=False)


def test_a_download_is_checked_and_then_reused(server, tmp_path):
    found = locate("toy", [server.source()], None, tmp_path / "data")
    assert found.folder == tmp_path / "data" / "toy"
    assert sorted(p.name for p in found.folder.iterdir()) == sorted(RAW)
    assert found.files == {name: sha256(text) for name, text in RAW.items()}
    server.http.shutdown()
    assert locate("toy", [server.source()], None, tmp_path / "data") == found


@pytest.mark.parametrize("fault", ["broken", "wrong"])
def test_a_bad_download_leaves_no_file_and_can_be_repeated(fault, server, tmp_path):
    getattr(server, fault).add("kg.txt")
    with pytest.raises(DataError, match=r"kg\.txt"):
        locate("toy", [server.source()], None, tmp_path / "data")
    assert list((tmp_path / "data" / "toy").iterdir()) == []
    getattr(server, fault).clear()
    assert locate("toy", [server.source()], None, tmp_path / "data").format.name == "released_raw"


def test_without_a_network_the_error_lists_missing_files_and_their_folder(tmp_path):
    source = Source("released_raw", tuple(RawFile(n, url=f"http://127.0.0.1:9/{n}") for n in RAW))
    with pytest.raises(DataError) as caught:
        locate("toy", [source], None, tmp_path / "data")
    for part in (
        *RAW, "http://127.0.0.1:9/kg.txt", f"put them in {tmp_path / 'data' / 'toy'}",
        "dataset.root=FOLDER", "dataset=movie-100k can be fetched with pip",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_the_order_of_places(server, tmp_path, monkeypatch):
    named, environment = put(tmp_path / "named", RAW), put(tmp_path / "env" / "toy", RAW)
    data = put(tmp_path / "data" / "toy", RAW).parent
    monkeypatch.setenv("KGREC_DATA_DIR", str(tmp_path / "env"))
    assert locate("toy", [server.source()], named, data).folder == named
    assert locate("toy", [server.source()], None, data).folder == environment
    monkeypatch.delenv("KGREC_DATA_DIR")
    assert locate("toy", [server.source()], None, data).folder == data / "toy"


def test_a_second_form_of_the_data_is_recognised(server, tmp_path):
    put(tmp_path / "data" / "toy", FINAL)
    final = Source("released_final", tuple(RawFile(name) for name in FINAL))
    found = locate("toy", [server.source(), final], None, tmp_path / "data")
    assert found.format.name == "released_final"


def test_local_files_with_other_content_are_refused(server, tmp_path):
    put(tmp_path / "data" / "toy", RAW | {"kg.txt": "0\tr\t1\n"})
    with pytest.raises(
        DataError, match=r"kg\.txt: found sha256 \w+, expected \w+; remove the file"
    ):
        locate("toy", [server.source()], None, tmp_path / "data")


def test_a_named_folder_may_have_other_content_with_a_warning(server, tmp_path, caplog):
    folder = put(tmp_path / "mine", RAW | {"kg.txt": "0\tr\t1\n"})
    with caplog.at_level(logging.WARNING):
        found = locate("toy", [server.source()], folder, tmp_path / "data")
    assert found.files["kg.txt"] == sha256("0\tr\t1\n")
    assert len(found.notes) == 1
    assert "kg.txt is not the published file" in caplog.text


def test_a_named_folder_in_another_format_is_refused(server, tmp_path):
    folder = put(tmp_path / "mine", FINAL)
    with pytest.raises(DataError, match="format released_final, expected released_raw"):
        locate("toy", [server.source()], folder, tmp_path / "data")


def test_git_blob_ids_equal_those_of_git(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    assert git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert RawFile("x", git_blob="ce013625030ba8dba906f756967f9e9ca394464a").problem(path) is None
    assert "expected 00" in str(RawFile("x", git_blob="00").problem(path))


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="found format 'xml', expected one of"):
        Source.from_config({"format": "xml", "files": {}})


class TestWheel:
    """What ``pip download`` brings; pip itself is replaced by a function."""

    @pytest.fixture
    def pip(self, monkeypatch):
        self.archive_sha256 = ""

        def run(command, **_):
            assert command[1:4] == ["-m", "pip", "download"]
            assert "--no-deps" in command
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "toy-1.whl", "w") as wheel:
                for name, text in RAW.items():
                    wheel.writestr(zipfile.ZipInfo(f"inside/{name}"), text)
            self.archive_sha256 = file_sha256(folder / "toy-1.whl")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(fetching.subprocess, "run", run)

    def source(self, archive_sha256: str | None) -> Source:
        files = tuple(RawFile(n, sha256(t), member=f"inside/{n}") for n, t in RAW.items())
        archive = RawFile("toy-1.whl", archive_sha256) if archive_sha256 else None
        return Source("released_raw", files, archive, pip="toy==1")

    def test_files_are_extracted_from_the_wheel(self, pip, tmp_path):
        found = locate("toy", [self.source(None)], None, tmp_path)
        assert sorted(p.name for p in found.folder.iterdir()) == sorted(RAW)
        (tmp_path / "again").mkdir()
        locate("toy", [self.source(self.archive_sha256)], None, tmp_path / "again")

    def test_another_wheel_is_refused(self, pip, tmp_path):
        with pytest.raises(DataError, match=r"toy-1\.whl: found sha256 \w+, expected 00"):
            locate("toy", [self.source("00")], None, tmp_path)
        assert list((tmp_path / "toy").iterdir()) == []

    def test_the_error_of_pip_is_shown(self, monkeypatch, tmp_path):
        failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: no such package")
        monkeypatch.setattr(fetching.subprocess, "run", lambda *_, **__: failed)
        with pytest.raises(DataError, match="pip download toy==1: ERROR: no such package"):
            locate("toy", [self.source(None)], None, tmp_path)
