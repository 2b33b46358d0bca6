"""The OpenAPI description, and random requests by it: schemathesis finds nothing."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from http_server import Server, running
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from kgrec.serving.app import create_app
from kgrec.serving.middleware.access import VARIABLE
from kgrec.serving.settings import ServeSettings

# No schema can say which ids a run knows, so a valid body may be refused.
EXCLUDED = [positive_data_acceptance]
EXAMPLES = 15  # for each operation
ITEM_KEYS = ("histories", "history", "item", "items", "candidates")

DESCRIPTION = create_app(ServeSettings(runs=("any",))).openapi()


def _random(examples: int):
    return settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


schema = schemathesis.openapi.from_dict(json.loads(json.dumps(DESCRIPTION)))


@pytest.fixture(scope="module")
def guarded(kgcn: Path) -> Iterator[Server]:
    """A server with a token: without one, /admin/reload would refuse every method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "secret")
        with running(kgcn) as server:
            yield server


def check(case: schemathesis.Case, server: Server) -> None:
    token = {"Authorization": server.client.headers["Authorization"]}
    case.call_and_validate(base_url=server.address, headers=token, excluded_checks=EXCLUDED)


def with_ids(body: Any) -> Any:
    """A body with ids of the run in the place of random texts, so that more are answered."""

    def known(kind: str, value: Any) -> Any:
        if isinstance(value, str):
            return f"{kind}{zlib.crc32(value.encode(errors='replace')) % 40}"
        if isinstance(value, list):
            return [known(kind, each) for each in value]
        if isinstance(value, dict):
            return {name: known(kind, each) for name, each in value.items()}
        return value

    if not isinstance(body, dict):
        return body
    kinds = {"users": "user", "user": "user", **dict.fromkeys(ITEM_KEYS, "item")}
    body = {key: known(kinds[key], value) if key in kinds else value for key, value in body.items()}
    return {key: value for key, value in body.items() if key not in ("run", "seen")}


@schema.parametrize()
@_random(EXAMPLES)
def test_random_requests(case: schemathesis.Case, guarded: Server) -> None:
    check(case, guarded)


@schema.include(method="POST").exclude(path="/admin/reload").parametrize()
@_random(EXAMPLES)
def test_random_requests_with_ids_of_the_run(case: schemathesis.Case, guarded: Server) -> None:
    case.body = with_ids(case.body)
    check(case, guarded)


@pytest.mark.slow
@schema.parametrize()
@_random(150)
def test_many_random_requests(case: schemathesis.Case, guarded: Server) -> None:
    check(case, guarded)


def test_every_request_has_an_example_that_is_answered(server: Server) -> None:
    paths = [path for path, item in DESCRIPTION["paths"].items() if "post" in item]
    assert {"/recommend", "/score", "/similar", "/explain"} <= set(paths)
    for name in ("Recommend", "Score", "Similar", "Explain"):
        (example,) = DESCRIPTION["components"]["schemas"][f"{name}Request"]["examples"]
        translated = json.loads(
            json.dumps(example).replace('"196"', '"user3"').replace('"50"', '"item3"')
            .replace('"Toy Story"', '"item4"')
        )  # fmt: skip
        assert server.ok(f"/{name.lower()}", **translated)


def test_nothing_is_described_that_is_not_kept(server: Server) -> None:
    assert server.ok("/openapi.json") == DESCRIPTION
    text = json.dumps(DESCRIPTION)
    assert "HTTPValidationError" not in text
    assert server.error("/docs", 404)  # that page would fetch scripts from the network
