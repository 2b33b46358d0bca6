"""Answers as JSON text, computed in the thread of the batcher.

Shapes: n rows, one for each user of each request of a batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.errors import DataError, KgrecError
from kgrec.inference.explanation import Explainer
from kgrec.inference.histories import renumbered
from kgrec.inference.naming import Namer
from kgrec.inference.ranker import Ranked, Ranker
from kgrec.inference.similar import similar_items
from kgrec.serving.errors import RequestError
from kgrec.serving.runs import ServedRun

WHY_TOP = 3  # reasons from which a clause is made
MOST_ATTRIBUTES = 200  # neighbours of an item in an answer


@dataclass(frozen=True)
class Recommend:
    """Recommendations of one request.

    Attributes:
        run: run that answers.
        users: numbers of users of the run.
        histories: names of new users and the numbers of the items that they like.
        k: number of items for each user.
        exclude_seen: whether to leave out items that a user has interacted with.
        seen: numbers of further items to leave out, by user.
        candidates: numbers of items to choose from; None: all.
        relation_weights: multipliers of attention, by relation; None or empty: as trained.
        why: whether to say why.
    """

    run: ServedRun
    users: Sequence[int]
    histories: Sequence[tuple[str, Sequence[int]]]
    k: int
    exclude_seen: bool = True
    seen: Mapping[str, Sequence[int]] = field(default_factory=dict)
    candidates: Sequence[int] | None = None
    relation_weights: Mapping[str, float] | None = None
    why: bool = False

    @property
    def key(self) -> tuple[int, bool] | None:
        """Requests of the same run share one ranking, those with new users one fold-in."""
        if self.candidates is not None or self.relation_weights or self.why:
            return None
        return id(self.run), bool(self.histories)

    @property
    def size(self) -> int:
        """Number of users."""
        return len(self.users) + len(self.histories)

    @staticmethod
    def answers(jobs: Sequence[Recommend]) -> list[bytes]:
        """The answers of requests that share one ranking."""
        k = max(job.k for job in jobs)
        known, new = _known_users(jobs, k), _new_users(jobs, k)
        return [job._answer(known, new).encode() for job in jobs]

    def _answer(self, known: Rows, new: Rows) -> str:
        """The answer, which takes its rows from the front of those of the batch."""
        results = [self._result(self.run.users.ids[user], None, next(known)) for user in self.users]
        results += [self._result(name, items, next(new)) for name, items in self.histories]
        return f'{{{_head(self.run)},"results":[{",".join(results)}]}}'

    def _result(self, user: str, history: Sequence[int] | None, row: Row) -> str:
        """The recommendations of one user."""
        fragments = self.run.item_json
        pairs = [pair for pair in zip(*row[:2], strict=True) if pair[0] >= 0][: self.k]
        reasons = ["null"] * len(pairs)
        if self.why and pairs:
            explainer = explainer_of(self.run, user, history, self.relation_weights)
            reasons = [_json(explainer.explain(item, WHY_TOP).why()) for item, _ in pairs]
        items = [
            f'{{"rank":{rank},{fragments[item]},"score":{_number(score)},"why":{why}}}'
            for rank, ((item, score), why) in enumerate(zip(pairs, reasons, strict=True), 1)
        ]
        return f'{{"user":{_json(user)},"source":"{row[2]}","items":[{",".join(items)}]}}'

    @property
    def allowed(self) -> Tensor | None:
        """(num_items,) bool, the candidates, on the device; None: all items."""
        if self.candidates is None:
            return None
        allowed = torch.zeros(len(self.run.items.ids), dtype=torch.bool)
        allowed[torch.tensor(self.candidates)] = True
        return allowed.to(self.run.rec.ranker.device)


Row = tuple[list[int], list[float], str]
"""Items, scores and source of one user."""

Rows = Iterator[Row]


def _ranker(job: Recommend) -> Ranker:
    """The ranker of a job, with its weights of relations."""
    with naming_body():
        return job.run.rec.ranker_for(job.relation_weights)


def _known_users(jobs: Sequence[Recommend], k: int) -> Rows:
    """Rankings of the users of the run of all jobs, in order."""
    ranker = _ranker(jobs[0])
    users = torch.tensor([user for job in jobs for user in job.users], dtype=torch.int64)
    if not len(users):
        return iter(())
    owners = [(job, job.run.users.ids[user]) for job in jobs for user in job.users]
    exclude = _excluded(renumbered(ranker.data.seen, users), owners)
    return _rows(ranker.best_of_known(users, k, exclude, jobs[0].allowed))


def _new_users(jobs: Sequence[Recommend], k: int) -> Rows:
    """Rankings of the new users of all jobs, in order."""
    ranker = _ranker(jobs[0])
    owners = [(job, name) for job in jobs for name, _ in job.histories]
    if not owners:
        return iter(())
    items = [items for job in jobs for _, items in job.histories]
    pairs = _pairs(items, len(jobs[0].run.items.ids))
    return _rows(ranker.best_of_new(pairs, k, _excluded(pairs, owners), jobs[0].allowed))


def _excluded(seen: Interactions, owners: Sequence[tuple[Recommend, str]]) -> Interactions | None:
    """What the rows leave out: what their users have seen, and what requests add to it.

    Args:
        seen: what the user of each row has seen.
        owners: request and user of each row.
    """
    if not all(job.exclude_seen for job, _ in owners):
        kept = torch.tensor([job.exclude_seen for job, _ in owners])
        seen = seen.take(kept[seen.users])
    if any(job.seen for job, _ in owners):
        further = [job.seen.get(user, ()) for job, user in owners]
        seen = seen.union(_pairs(further, seen.num_items))
    return seen if len(seen) else None


def _pairs(lists: Sequence[Sequence[int]], num_items: int) -> Interactions:
    """Pairs of rows and the items of their lists."""
    sizes = torch.tensor([len(items) for items in lists])
    flat = torch.tensor([item for items in lists for item in items], dtype=torch.int64)
    return Interactions.from_pairs(torch.repeat_interleave(sizes), flat, len(lists), num_items)


def _rows(ranked: Ranked) -> Rows:
    columns = ranked.items.tolist(), ranked.scores.tolist(), ranked.sources
    return zip(*columns, strict=True)


# ------------------------------------------------------------ other requests, each alone


def scores(
    run: ServedRun, users: Sequence[int], items: Sequence[int],
    histories: Sequence[tuple[str, Sequence[int]]] | None,
) -> bytes:  # fmt: skip
    """Scores of pairs.

    Args:
        run: run that answers.
        users: (n,) numbers of users of the run, or of new users in the order of ``histories``.
        items: (n,) numbers of items.
        histories: names and items of new users; None: the users are of the run.
    """
    ranker = run.rec.ranker
    pairs = torch.tensor(users), torch.tensor(items)
    if histories is None:
        names: Sequence[str] = run.users.ids
        values = ranker.score(*pairs)
    else:
        names = [name for name, _ in histories]
        new = _pairs([own for _, own in histories], len(run.items.ids))
        values = ranker.score_new(new, *pairs)
    rows = [
        f'{{"user":{_json(names[user])},{run.item_json[item]},"score":{_number(score)}}}'
        for user, item, score in zip(users, items, values.tolist(), strict=True)
    ]
    return f'{{{_head(run)},"scores":[{",".join(rows)}]}}'.encode()


def similar(run: ServedRun, item: int, k: int, candidates: Sequence[int] | None) -> bytes:
    """The items that are most similar to an item."""
    allowed = None
    if candidates is not None:
        allowed = torch.zeros(len(run.items.ids), dtype=torch.bool)
        allowed[torch.tensor(candidates)] = True
    rec = run.rec
    order = rec.ranker.tie_order
    frame = similar_items(rec.model, rec.data, rec.name, item, k, allowed, order)
    return as_json(
        {
            "run": run.name, "model": rec.name, "item": run.items.ids[item],
            "name": run.items.names[item], "items": frame.to_dicts(),
        }
    )  # fmt: skip


def explanation(
    run: ServedRun,
    user: str | None,
    item: int,
    history: Sequence[int] | None,
    top: int,
    relation_weights: Mapping[str, float] | None,
) -> bytes:
    """Why an item is recommended to a user."""
    explained = explainer_of(run, user, history, relation_weights).explain(item, top)
    return as_json({"run": run.name, **explained.to_dict()})


def user_facts(run: ServedRun, user: int) -> bytes:
    """What a user liked."""
    _, items = run.rec.data.positives.of_users(torch.tensor([user]))
    history = ",".join(f"{{{run.item_json[item]}}}" for item in items.tolist())
    positives = run.users.positives[user]
    head = f'"user":{_json(run.users.ids[user])},"positives":{positives}'
    return f'{{{head},"history":[{history}]}}'.encode()


def item_facts(run: ServedRun, item: int) -> bytes:
    """An item and the first of its neighbours in the knowledge graph."""
    data = run.rec.data
    attributes = [
        {
            "relation": step.relation, "relation_name": step.reads,
            "entity": step.entity.id, "entity_name": step.entity.name,
        }
        for step in Namer(data, torch.empty(0)).attributes(item, MOST_ATTRIBUTES)
    ]  # fmt: skip
    facts = {
        "positives": run.items.positives[item],
        "triples": int(data.neighborhood.degrees[item]),
        "attributes": attributes,
    }
    return f"{{{run.item_json[item]},".encode() + as_json(facts)[1:]


def found_users(run: ServedRun, search: str, limit: int) -> bytes:
    """Users that match a search."""
    numbers, total = run.users.search(search, limit)
    rows = [{"user": run.users.ids[n], "positives": run.users.positives[n]} for n in numbers]
    return as_json({"users": rows, "total": total})


def found_items(run: ServedRun, search: str, limit: int) -> bytes:
    """Items that match a search."""
    numbers, total = run.items.search(search, limit)
    rows = [
        {
            "item": run.items.ids[n], "name": run.items.names[n],
            "positives": run.items.positives[n],
        }
        for n in numbers
    ]  # fmt: skip
    return as_json({"items": rows, "total": total})


# ------------------------------------------------------------ JSON


def as_json(value: Any) -> bytes:
    """JSON without numbers that JSON does not have: they become null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(score: float) -> str:
    """A score as JSON.

    Raises:
        KgrecError: the score is not finite.
    """
    if not math.isfinite(score):
        raise KgrecError(f"found the score {score}, expected a finite number")
    return repr(score)


def _head(run: ServedRun) -> str:
    return f'"run":{_json(run.name)},"model":{_json(run.rec.name)}'


def explainer_of(
    run: ServedRun,
    user: str | None,
    history: Sequence[int] | None,
    relation_weights: Mapping[str, float] | None,
) -> Explainer:
    """Explains items to a user of the run, or to a new user.

    Raises:
        RequestError: the model has no reasons for such a user, or relations cannot be weighed so.
    """
    items = None if history is None else [run.items.ids[item] for item in history]
    with naming_body():
        return run.rec.explainer(user, items, relation_weights)


@contextmanager
def naming_body() -> Iterator[None]:
    """Puts "body" before the argument that an error of the model names."""
    try:
        yield
    except DataError as error:
        raise RequestError(f"body.{error}") from error
