"""Answers as JSON, computed in the thread of the batcher, each alone; and parts of answers.

:mod:`kgrec.serving.recommending` has those that are computed together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.errors import DataError, KgrecError
from kgrec.inference.explanation import Explainer
from kgrec.inference.naming import Namer
from kgrec.inference.similar import similar_items
from kgrec.serving.errors import RequestError
from kgrec.serving.runs import ServedRun

MOST_ATTRIBUTES = 200  # neighbours of an item in an answer


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
        new = pairs_of([own for _, own in histories], len(run.items.ids))
        values = ranker.score_new(new, *pairs)
    rows = [
        f'{{"user":{text_of(names[user])},{run.item_json[item]},"score":{number_of(score)}}}'
        for user, item, score in zip(users, items, values.tolist(), strict=True)
    ]
    return f'{{{head_of(run)},"scores":[{",".join(rows)}]}}'.encode()


def similar(run: ServedRun, item: int, k: int, candidates: Sequence[int] | None) -> bytes:
    """The items that are most similar to an item."""
    rec, allowed = run.rec, mask_of(run, candidates)
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
    head = f'"user":{text_of(run.users.ids[user])},"positives":{positives}'
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


# ------------------------------------------------------------ parts of answers


def pairs_of(lists: Sequence[Sequence[int]], num_items: int) -> Interactions:
    """Pairs of rows and the items of their lists."""
    sizes = torch.tensor([len(items) for items in lists])
    flat = torch.tensor([item for items in lists for item in items], dtype=torch.int64)
    return Interactions.from_pairs(torch.repeat_interleave(sizes), flat, len(lists), num_items)


def mask_of(run: ServedRun, candidates: Sequence[int] | None) -> Tensor | None:
    """(num_items,) bool, the items to choose from; None: all items."""
    if candidates is None:
        return None
    mask = torch.zeros(len(run.items.ids), dtype=torch.bool)
    mask[torch.tensor(candidates)] = True
    return mask


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


def text_of(value: Any) -> str:
    """A value as JSON text."""
    return json.dumps(value, ensure_ascii=False)


def number_of(score: float) -> str:
    """A score as JSON.

    Raises:
        KgrecError: the score is not finite.
    """
    if not math.isfinite(score):
        raise KgrecError(f"found the score {score}, expected a finite number")
    return repr(score)


def head_of(run: ServedRun) -> str:
    """The first members of an answer: run and model."""
    return f'"run":{text_of(run.name)},"model":{text_of(run.rec.name)}'
