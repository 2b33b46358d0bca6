"""Requests and answers, from which FastAPI makes the OpenAPI description.

Requests are strict: a number is no text, and an unknown key is an error. Answers are written as
JSON where they are computed (:mod:`kgrec.serving.answers`); the classes here describe them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(description="raw id; items also by title")]
# All errors of a long list would take a second and some hundred MB, so the first one ends it.
Ids = Annotated[list[Id], Field(fail_fast=True)]
Run = Annotated[str | None, Field(description="name of a served run; null: the first")]
# With weights further apart, users are ranked pair by pair, which can hold the server for minutes.
Multiplier = Annotated[float, Field(ge=1e-6, le=1e6)]
RelationWeights = Annotated[
    dict[str, Multiplier] | None,
    Field(description="multipliers of the attention to relations, by raw id or name"),
]


def _config(**example: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [example]})


class RecommendRequest(BaseModel):
    """Users of the run by id and new users by history: at least one of them."""

    model_config = _config(users=["196"], k=10)

    users: Annotated[Ids, Field(description="raw ids of users of the run")] = []
    histories: Annotated[
        dict[str, Annotated[Ids, Field(min_length=1)]] | None,
        Field(description="items that new users like, by name of the user"),
    ] = None
    k: Annotated[int, Field(ge=1, description="number of items for each user")] = 10
    exclude_seen: Annotated[
        bool, Field(description="whether to leave out items that the user has interacted with")
    ] = True
    candidates: Annotated[
        Ids | None, Field(min_length=1, description="items to choose from; null: all")
    ] = None
    seen: Annotated[
        dict[str, Ids] | None, Field(description="further items to leave out, by user")
    ] = None
    relation_weights: RelationWeights = None
    why: Annotated[bool, Field(description="whether to say why, in one clause for each item")] = (
        False
    )
    run: Run = None


class ScoreRequest(BaseModel):
    """Pairs: lists of one length, or a single user or item for all of the others."""

    model_config = _config(users=["196"], items=["50", "Toy Story"])

    users: Annotated[Ids, Field(min_length=1)]
    items: Annotated[Ids, Field(min_length=1)]
    histories: Annotated[
        dict[str, Annotated[Ids, Field(min_length=1)]] | None,
        Field(description="items that new users like; the users are then these new users"),
    ] = None
    run: Run = None


class SimilarRequest(BaseModel):
    """An item to compare with."""

    model_config = _config(item="50", k=10)

    item: Id
    k: Annotated[int, Field(ge=1)] = 10
    candidates: Annotated[
        Ids | None, Field(min_length=1, description="items to choose from; null: all")
    ] = None
    run: Run = None


class ExplainRequest(BaseModel):
    """A user and an item."""

    model_config = _config(user="196", item="50", top=5)

    user: Annotated[
        str | None, Field(description="raw id; with a history the name of a new user, or null")
    ] = None
    item: Id
    history: Annotated[
        Ids | None, Field(min_length=1, description="items that a new user likes")
    ] = None
    top: Annotated[int, Field(ge=1, description="number of reasons")] = 5
    relation_weights: RelationWeights = None
    run: Run = None


class Error(BaseModel):
    """What was wrong: ``<where>: found X, expected Y``."""

    error: str


class Recommendation(BaseModel):
    """One recommended item."""

    rank: int
    item: str
    name: str | None
    score: float
    why: str | None


class Recommendations(BaseModel):
    """The best items of one user, best first."""

    user: str
    source: Annotated[
        str, Field(description='"model", "fold-in (exact|propagation|steps)" or "popularity"')
    ]
    items: list[Recommendation]


class RecommendAnswer(BaseModel):
    """Recommendations: users in the order of the request, then new users."""

    run: str
    model: str
    results: list[Recommendations]


class Score(BaseModel):
    """Score of one pair; higher is better."""

    user: str
    item: str
    name: str | None
    score: float


class ScoreAnswer(BaseModel):
    """Scores in the order of the pairs."""

    run: str
    model: str
    scores: list[Score]


class SimilarItem(BaseModel):
    """One similar item."""

    rank: int
    item: str
    name: str | None
    similarity: float
    shared: Annotated[int, Field(description="common neighbours in the knowledge graph")]


class SimilarAnswer(BaseModel):
    """The most similar items, most similar first."""

    run: str
    model: str
    item: str
    name: str | None
    items: list[SimilarItem]


class RelationScore(BaseModel):
    """Score of a relation for the user."""

    relation: str
    name: str
    score: float


class ExplainAnswer(BaseModel):
    """Why an item is recommended to a user; fields as of ``kgrec.load(…).explain(…).to_dict()``."""

    model_config = ConfigDict(extra="allow")

    run: str
    user: str
    item: str
    name: str | None
    model: str
    source: str
    score: float
    method: str
    note: str
    text: str
    contributions: list[dict[str, Any]]
    left_out: int
    together: float | None
    parts: dict[str, float]
    relations: list[RelationScore] | None
    receptive_field: Annotated[
        dict[str, Any] | None, Field(description="tree of the neighbours that the model weighs")
    ]


class ItemName(BaseModel):
    """Id and title of an item."""

    item: str
    name: str | None


class UserAnswer(BaseModel):
    """A user of the run and what the user liked."""

    user: str
    positives: Annotated[int, Field(description="number of training positives")]
    history: list[ItemName]


class Attribute(BaseModel):
    """A neighbour of an item in the knowledge graph."""

    relation: str
    relation_name: str
    entity: str
    entity_name: str | None


class ItemAnswer(BaseModel):
    """An item and its neighbours in the knowledge graph."""

    item: str
    name: str | None
    positives: Annotated[int, Field(description="number of training positives")]
    triples: Annotated[int, Field(description="number of neighbours")]
    attributes: Annotated[list[Attribute], Field(description="the first of the neighbours")]


class FoundUser(BaseModel):
    """A user that a search found."""

    user: str
    positives: int


class UsersAnswer(BaseModel):
    """Users that match a search, best matches first."""

    users: list[FoundUser]
    total: Annotated[int, Field(description="number of all matches")]


class FoundItem(BaseModel):
    """An item that a search found."""

    item: str
    name: str | None
    positives: int


class ItemsAnswer(BaseModel):
    """Items that match a search, best matches first."""

    items: list[FoundItem]
    total: Annotated[int, Field(description="number of all matches")]


class Relation(BaseModel):
    """A relation of the knowledge graph, and its name in words."""

    relation: str
    name: str


class Abilities(BaseModel):
    """What the model of a run can do."""

    fold_in: Annotated[str | None, Field(description="how new users are folded in; null: never")]
    relation_weights: bool
    similar: bool


class RunInfo(BaseModel):
    """A served run."""

    name: str
    folder: Annotated[str, Field(description="name of the run folder")]
    model: str
    dataset: str | None
    users: int
    items: int
    metrics: dict[str, float | None]
    relations: list[Relation]
    abilities: Abilities


class RunsAnswer(BaseModel):
    """The served runs, the default first."""

    runs: list[RunInfo]


class Status(BaseModel):
    """State of the server."""

    status: str


class Reloaded(BaseModel):
    """What became of one run."""

    name: str
    folder: Annotated[str, Field(description="path of the run folder that is served now")]
    loaded: bool
    error: str | None


class ReloadAnswer(BaseModel):
    """The runs after a reload; a run that could not be loaded is served as before."""

    runs: list[Reloaded]
