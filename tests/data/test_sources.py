"""Finding and fetching raw files, against a local HTTP server that can misbehave."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import ROOT
from files import FINAL, RAW
from files import write as put

from kgrec.data.sources import fetching, transfer
from kgrec.data.sources.locate import locate
from kgrec.data.sources.public_files import RawFile, Source, git_blob_id
from kgrec.errors import ConfigError, DataError, DiskError
from kgrec.files import temporary_path


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
        poll = {"poll_interval": 0.02}
        threading.Thread(target=self.http.serve_forever, kwargs=poll, daemon=True).start()
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


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], r"found \[\], expected a source with its format and files"),
        ({"format": ["csv"], "files": {}}, r"found format \['csv'\], expected one of"),
        ({"format": "csv"}, "found None, expected files by their names"),
        ({"format": "csv", "files": {1: {}}}, "found {1: {}}, expected files by their names"),
        ({"format": "csv", "files": {"a.csv": 5}}, "found 5, expected settings of a.csv"),
        ({"format": "csv", "files": {}, "archive": "x"}, "found 'x', expected an archive"),
        ({"format": "csv", "files": {}, "archive": {"pip": 1}}, "pip: 1, expected a requirement"),
    ],
)  # fmt: skip
def test_a_source_of_another_form_is_refused(source, message):
    with pytest.raises(ConfigError, match=rf"dataset.sources: .*{message}"):
        Source.from_config(source)


@pytest.mark.parametrize("settings", [
    {"md6": "0"}, {"max_bytes": "1 GB"}, {"max_bytes": True}, {"url": 7}, {"optional": "yes"},
])  # fmt: skip
def test_a_setting_of_a_file_that_cannot_work_is_refused(settings):
    with pytest.raises(ConfigError, match=r"dataset\.sources.*: found"):
        Source.from_config({"format": "released_raw", "files": {"kg.txt": settings}})


def test_a_wrong_hash_says_what_was_expected_and_what_to_do(server, tmp_path):
    server.wrong.add("kg.txt")
    wrong, right = sha256(RAW["kg.txt"][::-1]), sha256(RAW["kg.txt"])
    message = rf"kg\.txt from .*: found sha256 {wrong}, expected {right}; nothing is kept"
    with pytest.raises(DataError, match=message):
        locate("toy", [server.source()], None, tmp_path / "data")


def test_what_a_killed_download_left_is_removed_at_the_next_start(server, tmp_path):
    folder = tmp_path / "data" / "toy"
    for name in (f".download.{platform.node()}-12345.incoming", ".incoming-12345"):
        (folder / name / "pip").mkdir(parents=True)
        (folder / name / "pip" / "x.whl").write_bytes(b"half")
    locate("toy", [server.source()], None, tmp_path / "data")
    assert sorted(p.name for p in folder.iterdir()) == sorted(RAW)


def test_a_killed_download_keeps_nothing_once_it_is_repeated(server, tmp_path):
    script = f"""
import sys
from pathlib import Path
from kgrec.data.sources import fetching, transfer
from kgrec.data.sources.public_files import RawFile, Source
def fetch(url, target, max_bytes):
    target.write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
fetching.fetch = fetch
source = Source("released_raw", tuple(RawFile(n, url="http://x") for n in {list(RAW)}))
fetching.download(source, Path("data/toy"), [])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout.readline() == b"begun\n"
    folder = tmp_path / "data" / "toy"
    half = temporary_path(folder / "download").name.replace(str(os.getpid()), str(process.pid))
    assert [p.name for p in folder.iterdir()] == [half]
    process.kill()
    process.communicate()
    found = locate("toy", [server.source()], None, tmp_path / "data")
    assert sorted(p.name for p in folder.iterdir()) == sorted(found.files)


def test_of_two_downloads_at_once_the_second_waits_and_uses_the_files(
    server, tmp_path, monkeypatch
):
    begun, going, fetched = threading.Event(), threading.Event(), []

    def fetch(url, target, max_bytes):
        fetched.append(target.name)
        begun.set()
        assert going.wait(10)
        transfer.fetch(url, target, max_bytes)

    monkeypatch.setattr(fetching, "fetch", fetch)
    found = []

    def run():
        found.append(locate("toy", [server.source()], None, tmp_path / "data"))

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()
    going.set()
    for thread in threads:
        thread.join(10)
    assert found[0] == found[1]
    assert sorted(fetched) == sorted(RAW)


def test_a_file_in_the_place_of_the_data_folder_is_one_line(server, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(DiskError, match=r"data: found a file, expected a folder"):
        locate("toy", [server.source()], None, tmp_path / "data")


def test_a_full_disk_is_said_and_nothing_is_kept(server, tmp_path, monkeypatch):
    def copyfile(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    put(tmp_path / "env" / "toy", {"kg.txt": RAW["kg.txt"]})
    monkeypatch.setenv("KGREC_DATA_DIR", str(tmp_path / "env"))
    monkeypatch.setattr(fetching.shutil, "copyfile", copyfile)
    with pytest.raises(DiskError, match=r"download: found [\d,]+ bytes free \(No space left"):
        locate("toy", [server.source()], None, tmp_path / "data")
    assert list((tmp_path / "data" / "toy").iterdir()) == []


WHEEL = f"""
import sys, zipfile
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--dest") + 1])
with zipfile.ZipFile(folder / "toy-1.whl", "w") as wheel:
    for name, text in {RAW!r}.items():
        wheel.writestr(zipfile.ZipInfo("inside/" + name), text)
"""
FAILS = """
import sys
print("noise\\nERROR: no such package\\nmore noise", file=sys.stderr)
sys.exit(1)
"""
HANGS = "import time; time.sleep(30)"
FLOODS = """
import os, time
with open(os.path.join(os.environ["TMPDIR"], "part"), "wb") as out:
    while True:
        out.write(bytes(100_000))
        out.flush()
        time.sleep(0.01)
"""


class TestWheel:
    """What ``pip download`` brings; a script stands for pip."""

    @pytest.fixture
    def pip(self, monkeypatch, tmp_path):
        def use(script):
            (tmp_path / "pip.py").write_text(script)
            command = (sys.executable, "-S", str(tmp_path / "pip.py"))
            monkeypatch.setattr(fetching, "PIP", command)

        return use

    def source(self, archive: RawFile | None = None, pip: str = "toy==1") -> Source:
        files = tuple(RawFile(n, sha256(t), member=f"inside/{n}") for n, t in RAW.items())
        return Source("released_raw", files, archive, pip)

    def refused(self, tmp_path, source: Source, message: str) -> None:
        """Nothing is kept, not even a temporary folder."""
        with pytest.raises(DataError, match=message):
            locate("toy", [source], None, tmp_path / "data")
        assert list((tmp_path / "data" / "toy").iterdir()) == []

    def test_files_are_extracted_from_the_wheel(self, pip, tmp_path):
        pip(WHEEL)
        found = locate("toy", [self.source()], None, tmp_path / "data")
        assert sorted(p.name for p in found.folder.iterdir()) == sorted(RAW)

    def test_another_wheel_is_refused(self, pip, tmp_path):
        pip(WHEEL)
        archive = RawFile("toy-1.whl", "00")
        self.refused(
            tmp_path, self.source(archive), r"toy-1\.whl: found sha256 \w+, expected 00; nothing"
        )

    def test_the_error_of_pip_is_shown(self, pip, tmp_path):
        pip(FAILS)
        self.refused(tmp_path, self.source(), "pip download toy==1: ERROR: no such package\n")

    def test_without_pip_the_error_says_so(self, monkeypatch, tmp_path):
        monkeypatch.setattr(fetching, "PIP", (sys.executable, "-S", "-m", "no_pip"))
        self.refused(tmp_path, self.source(), "No module named no_pip")

    def test_pip_that_does_not_end_is_stopped(self, pip, monkeypatch, tmp_path):
        pip(HANGS)
        monkeypatch.setattr(fetching, "PIP_SECONDS", 0.1)
        self.refused(tmp_path, self.source(), r"found no wheel after 0\.1 s; try again")

    def test_pip_that_writes_without_end_is_stopped(self, pip, tmp_path):
        pip(FLOODS)
        archive = RawFile("toy-1.whl", max_bytes=500_000)
        message = r"pip download toy==1: found [\d,]+ bytes or more, expected at most 500,000"
        self.refused(tmp_path, self.source(archive), message)

    @pytest.mark.parametrize(
        "requirement", ["--index-url=http://x", "-rfile", "toy", "toy==1 other", "git+http://x@1"]
    )
    def test_a_requirement_is_a_name_and_a_version(self, requirement, pip, tmp_path):
        pip(WHEEL)
        self.refused(tmp_path, self.source(pip=requirement), "expected NAME==VERSION")
