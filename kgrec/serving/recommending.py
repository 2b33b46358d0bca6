"""Recommendations of requests that are computed together.

Shapes: n rows, one for each user of each request of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.inference.histories import renumbered
from kgrec.inference.ranker import Ranked, Ranker
from kgrec.serving.answers import (
    explainer_of,
    head_of,
    mask_of,
    naming_body,
    number_of,
    pairs_of,
    text_of,
)
from kgrec.serving.runs import ServedRun

WHY_TOP = 3  # reasons from which a clause is made


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
        return f'{{{head_of(self.run)},"results":[{",".join(results)}]}}'

    def _result(self, user: str, history: Sequence[int] | None, row: Row) -> str:
        """The recommendations of one user."""
        fragments = self.run.item_json
        k = self.k  # another request of the batch may have a larger one
        pairs = [each for each in zip(row[0][:k], row[1][:k], strict=True) if each[0] >= 0]
        reasons = ["null"] * len(pairs)
        if self.why and pairs:
            explainer = explainer_of(self.run, user, history, self.relation_weights)
            reasons = [text_of(explainer.explain(item, WHY_TOP).why()) for item, _ in pairs]
        items = [
            f'{{"rank":{rank},{fragments[item]},"score":{number_of(score)},"why":{why}}}'
            for rank, ((item, score), why) in enumerate(zip(pairs, reasons, strict=True), 1)
        ]
        return f'{{"user":{text_of(user)},"source":"{row[2]}","items":[{",".join(items)}]}}'

    @property
    def allowed(self) -> Tensor | None:
        """(num_items,) bool, the candidates, on the device; None: all items."""
        mask = mask_of(self.run, self.candidates)
        return None if mask is None else mask.to(self.run.rec.ranker.device)


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
    pairs = pairs_of(items, len(jobs[0].run.items.ids))
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
        seen = seen.union(pairs_of(further, seen.num_items))
    return seen if len(seen) else None


def _rows(ranked: Ranked) -> Rows:
    columns = ranked.items.tolist(), ranked.scores.tolist(), ranked.sources
    return zip(*columns, strict=True)
