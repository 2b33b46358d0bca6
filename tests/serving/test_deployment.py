"""Files of docs/serving: nginx, systemd and the container; the manual's requests and answers."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from kgrec import cli

FOLDER = ROOT / "docs" / "serving"


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"no {program} here")


def test_nginx_accepts_its_file(tmp_path: Path) -> None:
    needs("nginx")
    needs("openssl")
    key, certificate = tmp_path / "kgrec.key", tmp_path / "kgrec.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kgrec",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    text = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
    for there, here in (
        ("/etc/ssl/private/kgrec.key", key), ("/etc/ssl/certs/kgrec.pem", certificate),
        ("/var/log/nginx/kgrec.log", tmp_path / "access.log"),
        ("/var/log/nginx/kgrec.error.log", tmp_path / "site.log"),
    ):  # fmt: skip
        assert there in text
        text = text.replace(there, str(here))
    (tmp_path / "site.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
        f"events {{}}\nhttp {{ include {tmp_path}/site.conf; }}\n"
    )
    done = subprocess.run(
        ["nginx", "-t", "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_systemd_accepts_its_unit(tmp_path: Path) -> None:
    needs("systemd-analyze")
    text = (FOLDER / "kgrec.service").read_text(encoding="utf-8")
    unit = tmp_path / "kgrec.service"
    unit.write_text(text.replace("/opt/kgrec/bin/kgrec", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_systemd_waits_until_the_server_has_stopped() -> None:
    from kgrec.serving.processes.server import STOP_SECONDS
    from kgrec.serving.settings import ServeSettings

    unit = (FOLDER / "kgrec.service").read_text(encoding="utf-8")
    (seconds,) = re.findall(r"(?m)^TimeoutStopSec=(\d+)$", unit)
    assert int(seconds) > ServeSettings(("run",)).timeout_s + 2 * STOP_SECONDS


def test_the_commands_of_the_unit_and_the_container_are_commands_of_kgrec() -> None:
    unit = (FOLDER / "kgrec.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"(?m)^ExecStart=\S+/kgrec (.*)$", unit)
    container = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    (entry,) = re.findall(r'(?m)^ENTRYPOINT \["\S+/kgrec", (.*)\]$', container)
    (run,) = re.findall(r'(?m)^CMD \["(.*)"\]$', container)
    for words in (shlex.split(line), [*entry.replace('"', "").split(", "), run]):
        _, rest = cli.parser().parse_known_args(words)
        assert words[0] == "serve"
        assert rest == []


def test_the_container_copies_what_the_repository_has() -> None:
    container = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    kept = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        source
        for line in re.findall(r"(?m)^COPY (?!--from)(.*)$", container)
        for source in line.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in kept, source
    wheel = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "hydra_plugins" in copied  # what the wheel is made from, see pyproject.toml
    assert 'conf = "kgrec/conf"' in wheel
    assert "conf" in copied
    assert re.search(r"(?m)^USER 10001$", container)
    (torch,) = re.findall(r'"(torch[^"]+)"', container)
    assert f'"{torch}"' in wheel


def test_the_manual_s_requests_and_answers_are_those_of_the_routes() -> None:
    from kgrec.serving import schemas

    requests = {
        "/recommend": (schemas.RecommendRequest, schemas.RecommendAnswer),
        "/score": (schemas.ScoreRequest, schemas.ScoreAnswer),
    }
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sent = re.findall(
        r"curl [^\n]*8000(/\w+) [^']*'Content-Type: [^']*'[^']*-d '(.*?)'", page + readme
    )
    assert len(sent) > 3
    for route, body in sent:
        requests[route][0].model_validate_json(body)
    answer, error = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    schemas.RecommendAnswer.model_validate_json(answer)
    schemas.Error.model_validate_json(error)


def test_the_manual_names_every_route_and_limit() -> None:
    from kgrec.serving.app import create_app
    from kgrec.serving.settings import ServeSettings

    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    app = create_app(ServeSettings(runs=("run",)))
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in page.replace("`, `GET", "` `GET"), path
    parsers = [parser for name, parser in subparsers() if name in {"serve", "export"}]
    offered = {option for parser in parsers for option in parser._option_string_actions}
    named = set(re.findall(r"`(--[\w-]+)[` ]", page)) | set(re.findall(r" (--max-[\w-]+)", page))
    assert named <= offered


def subparsers():
    """Names and parsers of the commands."""
    return next(
        action.choices.items()
        for action in cli.parser()._actions
        if isinstance(action.choices, dict)
    )
