"""The paths of the server: each reads a request, and has the batcher compute its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from kgrec.serving import answers
from kgrec.serving import schemas as s
from kgrec.serving.body_route import BodyRoute
from kgrec.serving.errors import RequestError, error_answer
from kgrec.serving.lookup import Lookup
from kgrec.serving.recommending import Recommend
from kgrec.serving.runs import ServedRun
from kgrec.serving.state import Serving

MOST_REASONS = 200  # items that one request may have explained
MOST_NEW_WITH_REASONS = 20  # new users of such a request: each is folded in once more
MOST_LIKED = 10_000  # items that the new users of a request like: fold-in by steps reads all
ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": s.Error, "description": "the token is missing or wrong"},
    413: {"model": s.Error, "description": "the body is too large"},
    422: {"model": s.Error, "description": "the request cannot be answered"},
    503: {"model": s.Error, "description": "busy, too slow, or not ready; try again"},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": s.Error, "description": "unknown"}}

RunName = Annotated[str | None, Query(alias="run", description="name of a served run")]
Search = Annotated[str, Query(description="part of an id or title; empty: all")]
Limit = Annotated[int, Query(ge=1, le=100, description="most rows")]

router = APIRouter(responses=ERRORS, route_class=BodyRoute)


def serving(request: Request) -> Serving:
    """What the paths share."""
    found: Serving = request.app.state.serving
    return found


def _histories(
    histories: dict[str, list[str]] | None, items: Lookup
) -> list[tuple[str, list[int]]]:
    """Names of new users and the numbers of their items."""
    _check_liked(sum(map(len, (histories or {}).values())), "body.histories")
    return [
        (name, items.numbers(own, f"body.histories.{name[:20]}"))
        for name, own in (histories or {}).items()
    ]


def _check_liked(number: int, where: str) -> None:
    if number > MOST_LIKED:
        raise RequestError(f"{where}: found {number} items, expected at most {MOST_LIKED}")


@router.post("/recommend", response_model=s.RecommendAnswer)
async def recommend(body: s.RecommendRequest, request: Request) -> Response:
    """The best items of users of the run and of new users."""
    state = serving(request)
    run = state.runs.get(body.run)
    state.check_k(body.k, run)
    histories = _histories(body.histories, run.items)
    size = len(body.users) + len(histories)
    if not size:
        raise RequestError("body.users: found no user, expected one here or in histories")
    state.check_users(size)
    if body.why and size * body.k > MOST_REASONS:
        raise RequestError(
            f"body.why: found {size * body.k} items to explain, expected at most {MOST_REASONS}: "
            "fewer users or a smaller k"
        )
    if body.why and len(histories) > MOST_NEW_WITH_REASONS:
        raise RequestError(
            f"body.why: found {len(histories)} new users, expected at most {MOST_NEW_WITH_REASONS}"
        )
    users = run.users.numbers(body.users, "body.users")
    job = Recommend(
        run=run,
        users=users,
        histories=histories,
        k=body.k,
        exclude_seen=body.exclude_seen,
        seen=_seen(body, run, users),
        candidates=_candidates(body.candidates, run.items),
        relation_weights=body.relation_weights,
        why=body.why,
    )
    return await state.answer(job)


def _candidates(candidates: list[str] | None, items: Lookup) -> list[int] | None:
    """Numbers of candidate items; None: all items."""
    return None if candidates is None else items.numbers(candidates, "body.candidates")


def _seen(body: s.RecommendRequest, run: ServedRun, users: Sequence[int]) -> dict[str, list[int]]:
    """Further items to leave out, by user.

    Raises:
        RequestError: a user is not in the request, or an item is unknown.
    """
    if not body.seen:
        return {}
    expected = {run.users.ids[user] for user in users} | set(body.histories or ())
    for user in body.seen:
        if user not in expected:
            raise RequestError(
                f"body.seen: found the user {user[:20]!r}, expected users of this request"
            )
    return {
        user: run.items.numbers(items, f"body.seen.{user[:20]}")
        for user, items in body.seen.items()
    }


@router.post("/score", response_model=s.ScoreAnswer)
async def score(body: s.ScoreRequest, request: Request) -> Response:
    """Scores of pairs; they compare items for one user."""
    state = serving(request)
    run = state.runs.get(body.run)
    users, items = body.users, body.items
    if len(users) == 1:
        users = users * len(items)
    elif len(items) == 1:
        items = items * len(users)
    if len(users) != len(items):
        raise RequestError(
            f"body: found {len(users)} users and {len(items)} items, expected lists of one length, "
            "or a single user or item"
        )
    state.check_users(len(users))
    numbers = run.items.numbers(items, "body.items")
    if body.histories is None:
        return await state.call(
            answers.scores, run, run.users.numbers(users, "body.users"), numbers, None
        )
    state.check_users(len(body.histories))
    histories = _histories(body.histories, run.items)
    places = {name: place for place, (name, _) in enumerate(histories)}
    for user in users:
        if user not in places:
            raise RequestError(f"body.users: found {user[:20]!r}, expected names of histories")
    return await state.call(
        answers.scores, run, [places[user] for user in users], numbers, histories
    )


@router.post("/similar", response_model=s.SimilarAnswer)
async def similar(body: s.SimilarRequest, request: Request) -> Response:
    """The items that the model holds for the most similar."""
    state = serving(request)
    run = state.runs.get(body.run)
    state.check_k(body.k, run)
    item = run.items.numbers([body.item], "body.item")[0]
    candidates = _candidates(body.candidates, run.items)
    return await state.call(answers.similar, run, item, body.k, candidates)


@router.post("/explain", response_model=s.ExplainAnswer)
async def explain(body: s.ExplainRequest, request: Request) -> Response:
    """Why an item is recommended to a user, as far as the model can say."""
    state = serving(request)
    run = state.runs.get(body.run)
    if body.top > (most := state.settings.max_k):
        raise RequestError(f"body.top: found {body.top}, expected at most {most}")
    item = run.items.numbers([body.item], "body.item")[0]
    user, history = body.user, None
    if body.history is not None:
        _check_liked(len(body.history), "body.history")
        history = run.items.numbers(body.history, "body.history")
    elif user is None:
        raise RequestError("body.user: found null, expected an id, or a history of a new user")
    else:
        user = run.users.ids[run.users.numbers([user], "body.user")[0]]
    return await state.call(
        answers.explanation, run, user, item, history, body.top, body.relation_weights
    )


@router.get("/users", response_model=s.UsersAnswer, responses=UNKNOWN)
async def users(
    request: Request, search: Search = "", limit: Limit = 20, run: RunName = None
) -> Response:
    """Users that match a search, best matches first."""
    state = serving(request)
    return await state.call(answers.found_users, _run(state, run), search, limit)


@router.get("/items", response_model=s.ItemsAnswer, responses=UNKNOWN)
async def items(
    request: Request, search: Search = "", limit: Limit = 20, run: RunName = None
) -> Response:
    """Items that match a search, best matches first."""
    state = serving(request)
    return await state.call(answers.found_items, _run(state, run), search, limit)


@router.get("/users/{id:path}", response_model=s.UserAnswer, responses=UNKNOWN)
async def user(request: Request, id: str, run: RunName = None) -> Response:  # noqa: A002
    """What a user liked."""
    state = serving(request)
    chosen = _run(state, run)
    return await state.call(
        answers.user_facts, chosen, chosen.users.numbers([id], "path.id", 404)[0]
    )


@router.get("/items/{id:path}", response_model=s.ItemAnswer, responses=UNKNOWN)
async def item(request: Request, id: str, run: RunName = None) -> Response:  # noqa: A002
    """An item and its neighbours in the knowledge graph."""
    state = serving(request)
    chosen = _run(state, run)
    return await state.call(
        answers.item_facts, chosen, chosen.items.numbers([id], "path.id", 404)[0]
    )


def _run(state: Serving, name: str | None) -> ServedRun:
    return state.runs.get(name, "query.run", 404)


@router.get("/runs", response_model=s.RunsAnswer)
async def runs(request: Request) -> Response:
    """The served runs, the default first."""
    info = [run.info for run in serving(request).runs.all()]
    return Response(answers.as_json({"runs": info}), media_type="application/json")


@router.get("/health", response_model=s.Status)
async def health() -> Response:
    """Whether the server is alive."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.get("/ready", response_model=s.Status)
async def ready(request: Request) -> Response:
    """Whether the server answers requests: not before its runs are loaded, nor while it stops."""
    state = serving(request)
    if state.stopping or not state.runs.loaded:
        found = "a server that stops" if state.stopping else "runs that are being loaded"
        return error_answer(503, f"server: found {found}, expected a ready one; try again")
    return Response(b'{"status":"ready"}', media_type="application/json")


@router.post(
    "/admin/reload",
    response_model=s.ReloadAnswer,
    responses={403: {"model": s.Error, "description": "the server has no token"}},
)
async def reload(request: Request) -> Response:
    """Loads anew what each run names by now; no request is lost."""
    outcomes = await serving(request).reload_all()
    content = answers.as_json({"runs": [outcome._asdict() for outcome in outcomes]})
    return Response(content, media_type="application/json")


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Metrics in the format of Prometheus, of all workers."""
    monitor = serving(request).monitor
    content = await asyncio.to_thread(monitor.text)
    return Response(content, media_type=monitor.content_type)
