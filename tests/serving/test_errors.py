"""Requests that cannot be answered: one form, the key at fault, never a trace."""

from __future__ import annotations

import json
import logging

import pytest
from http_server import Server, running

RECOMMEND = {"users": ["user3"]}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/recommend", {"k": 5}, "body.users: found no user, expected"),
        ("/recommend", {"users": [], "histories": {}}, "body.users: found no user, expected"),
        ("/recommend", RECOMMEND | {"k": 0}, "body.k: found 0, expected greater than or equal"),
        ("/recommend", RECOMMEND | {"k": -1}, "body.k: found -1, expected greater than or equal"),
        ("/recommend", RECOMMEND | {"k": 10**9}, "body.k: found 1000000000, expected at most 40"),
        ("/recommend", RECOMMEND | {"k": 10**30}, f"body.k: found {10**30}, expected at most 40"),
        ("/recommend", RECOMMEND | {"k": 2.5}, "body.k: found 2.5, expected a valid integer"),
        ("/recommend", RECOMMEND | {"k": True}, "body.k: found true, expected a valid integer"),
        ("/recommend", RECOMMEND | {"k": "5"}, "body.k: found '5', expected a valid integer"),
        ("/recommend", {"users": "user3"}, "body.users: found 'user3', expected a valid array"),
        ("/recommend", {"users": [3]}, "body.users.0: found 3, expected a valid string"),
        ("/recommend", RECOMMEND | {"x": 1}, "body.x: found an unknown key"),
        ("/recommend", {"users": list("abcdefgh")}, "found 8 unknown users ('a', 'b', 'c', 'd', "
         "'e' and 3 more), expected some of the 60 users of the run, such as 'user"),
        ("/recommend", {"users": ["a\x00"]}, "found 1 unknown user ('a\\x00')"),
        ("/recommend", RECOMMEND | {"candidates": []}, "body.candidates: found a list of 0"),
        ("/recommend", RECOMMEND | {"candidates": ["x"]}, "body.candidates: found 1 unknown item"),
        ("/recommend", {"histories": {"a": []}}, "body.histories.a: found a list of 0"),
        ("/recommend", {"histories": {"a": ["x"]}}, "body.histories.a: found 1 unknown item"),
        ("/recommend", {"histories": {"a": ["item1"] * 9_999, "b": ["item1"] * 2}},
         "body.histories: found 10001 items, expected at most 10000"),
        ("/score", {"users": ["a"], "items": ["item1"], "histories": {"a": ["item1"] * 10_001}},
         "body.histories: found 10001 items, expected at most 10000"),
        ("/explain", {"item": "item1", "history": ["item1"] * 10_001},
         "body.history: found 10001 items, expected at most 10000"),
        ("/recommend", RECOMMEND | {"seen": {"user4": []}}, "body.seen: found the user 'user4'"),
        ("/recommend", RECOMMEND | {"seen": {"user3": ["x"]}}, "body.seen.user3: found 1 unknown"),
        ("/recommend", RECOMMEND | {"relation_weights": {"x": 2}},
         "body.relation_weights: found relation 'x', expected one of"),
        ("/recommend", RECOMMEND | {"relation_weights": {"x": 0}},
         "body.relation_weights.x: found 0, expected greater than or equal to 0.000001"),
        ("/recommend", RECOMMEND | {"relation_weights": {"x": 2e6}},
         "body.relation_weights.x: found 2000000.0, expected less than or equal to 1000000"),
        ("/recommend", {"users": ["user3"] * 30, "k": 10, "why": True},
         "body.why: found 300 items to explain, expected at most 200"),
        ("/recommend", {"histories": {f"a{n}": ["item1"] for n in range(21)}, "k": 1, "why": True},
         "body.why: found 21 new users, expected at most 20"),
        ("/recommend", RECOMMEND | {"run": "x"}, "body.run: found 'x', expected one of default"),
        ("/recommend", {"users": ["user3"] * 1001}, "found 1001 users or pairs, expected at most"),
        ("/score", {"users": [], "items": ["item1"]}, "body.users: found a list of 0"),
        ("/score", {"users": ["user3"]}, "body.items: found nothing, expected a value"),
        ("/score", {"users": ["user3", "user4"], "items": ["item1"] * 3},
         "body: found 2 users and 3 items, expected lists of one length"),
        ("/score", {"users": ["b"], "items": ["item1"], "histories": {"a": ["item1"]}},
         "body.users: found 'b', expected names of histories"),
        ("/similar", {"item": "item1", "k": 41}, "body.k: found 41, expected at most 40"),
        ("/similar", {"item": "x"}, "body.item: found 1 unknown item ('x')"),
        ("/explain", {"item": "item1"}, "body.user: found null, expected an id, or a history"),
        ("/explain", {"user": "x", "item": "item1"}, "body.user: found 1 unknown user ('x')"),
        ("/explain", {"user": "user3", "item": "item1", "top": 10**9}, "body.top: found"),
    ],
)  # fmt: skip
def test_bodies_that_cannot_be_answered(server: Server, path: str, body: dict, message: str):
    found = server.error(path, 422, **body)
    assert message in found
    assert len(found) < 400


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"users": ["\xff"]}',
        b'{"users": ["\\ud800"]}', b'{"users": ["user3"], "k": NaN}',
        b'{"users": ["user3"], "relation_weights": {"r": Infinity}}',
        b'{"users": ["user3"], "k": 1' + b"0" * 5000 + b"}", b"[" * 100_000,
        b'{"users": ["' + b"x" * 500_000 + b'"]}', b'{"' + b"x" * 500_000 + b'": 1}',
    ],
    ids=lambda content: repr(content[:30]),
)  # fmt: skip
def test_broken_bodies(server: Server, content: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    response = server.client.post("/recommend", content=content, headers=headers)
    assert response.status_code == 422, response.text
    assert response.json()["error"].startswith("body")
    assert len(response.text) < 2000


def test_the_first_wrong_element_of_a_long_list_is_the_only_one_that_is_reported(server: Server):
    message = server.error("/recommend", 422, users=[1] * 1000)
    assert message == "body.users.0: found 1, expected a valid string"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/jsonx", "multipart/form-data"])
def test_a_body_of_another_type(server: Server, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    response = server.client.post("/recommend", content=json.dumps(RECOMMEND), headers=headers)
    assert response.status_code == 422
    expected = f"Content-Type: found {kind or ''!r}, expected application/json"
    assert response.json()["error"] == expected


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/problem+JSON"])
def test_types_of_json(server: Server, kind: str) -> None:
    headers = {"Content-Type": kind}
    response = server.client.post("/recommend", content=json.dumps(RECOMMEND), headers=headers)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/users/nobody", 404, "path.id: found 1 unknown user ('nobody')"),
        ("/users/", 404, "found 1 unknown user ('')"),
        ("/users/a/b%2Fc", 404, "found 1 unknown user ('a/b/c')"),
        ("/items/%00", 404, "found 1 unknown item ('\\x00')"),
        ("/items/%F0%9F%8E%AC", 404, "found 1 unknown item"),
        ("/items/%FF", 404, "found 1 unknown item"),
        ("/items?limit=0", 422, "query.limit: found '0', expected greater than or equal to 1"),
        ("/items?limit=x", 422, "query.limit: found 'x', expected a valid integer"),
        ("/users?run=x", 404, "query.run: found 'x', expected one of default"),
        ("/nothing", 404, "GET /nothing: found no such path"),
        ("/recommend", 405, "GET /recommend: found the method GET, expected POST"),
        ("/page/%00", 404, "found no such path"),
        ("/page/../app.py", 404, "found no such path"),
    ],
)
def test_paths_that_cannot_be_answered(server: Server, path: str, status: int, message: str):
    assert message in server.error(path, status)


def test_ids_with_slashes_unicode_and_spaces(server: Server) -> None:
    run = server.serving.runs.get(None)
    for strange in ("a/b", "ü 🎬", " ", "user3/", "%2F", "a\x00b"):
        run.users._numbers[strange] = 3
        try:
            response = server.client.get("/users/" + "".join(f"%{b:02X}" for b in strange.encode()))
            assert response.json()["user"] == "user3"
            answer = server.ok("/recommend", users=[strange], k=1)
            assert answer["results"][0]["items"]
        finally:
            del run.users._numbers[strange]


def test_an_unexpected_fault_has_no_trace(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("kgrec.serving.answers.similar", broken)
    with caplog.at_level(logging.ERROR):
        message = server.error("/similar", 500, item="item1")
    assert message == "internal error; the log has the trace"
    assert "ZeroDivisionError: secret" in caplog.text
    monkeypatch.undo()
    assert server.ok("/similar", item="item1")


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_a_fault_of_the_server(server: Server, score: float) -> None:
    ranker = server.serving.runs.get(None).rec.ranker
    try:
        ranker._score_all = lambda users: ranker.model.score_all(users) * score  # type: ignore[method-assign]
        assert server.error("/recommend", 500, users=["user3"]).startswith("internal error")
    finally:
        del ranker._score_all
    assert server.ok("/recommend", users=["user3"])


def test_limits_of_the_server(kgcn) -> None:
    with running(kgcn, max_k=3, max_users=2) as server:
        assert "expected at most 3" in server.error("/recommend", 422, users=["user3"], k=4)
        users = ["user3", "user4"]
        assert server.ok("/recommend", users=users, k=3)
        assert "expected at most 2" in server.error(
            "/recommend", 422, users=users, histories={"a": ["item1"]}, k=3
        )
        assert "expected at most 2" in server.error(
            "/score", 422, users=["user3"], items=["item1"] * 3
        )
