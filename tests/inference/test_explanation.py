"""Explanations with raw ids and names, similar items, and their English."""

import json

import polars as pl
import pytest
import torch
from conftest import ROOT, Trained

import kgrec
from kgrec.errors import DataError
from kgrec.inference import picture, wording
from kgrec.inference.explanation import Explanation, _clause
from kgrec.inference.naming import Contribution, Named, NamedStep, Namer
from kgrec.models.reasons import LEAVE_ONE_OUT, Reasons

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


@pytest.fixture
def rec(trained: Trained):
    return kgrec.load(trained("model=kgcn", "model.H=2"))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_explains_with_ids(name, trained: Trained):
    rec = kgrec.load(trained(f"model={name}"))
    item = rec.recommend("user3", k=1)["item"][0]
    explanation = rec.explain("user3", item, top=3)
    score = rec.score("user3", item)["score"][0]
    assert explanation.score == pytest.approx(score, abs=1e-5)
    assert (explanation.user, explanation.item.id, explanation.model) == ("user3", item, name)
    content = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    assert content["text"] == explanation.text()
    assert explanation.text().endswith(".")
    assert item in explanation.text()
    assert len(content["contributions"]) <= 3
    frame = explanation.frame()
    assert frame.columns == ["rank", "reason", "weight", "share", "history"]
    assert frame.height == len(explanation.contributions)
    assert "None" not in explanation.text() + str(frame["reason"].to_list())
    if explanation.method == "similar history":
        assert "similar to" in explanation.text()
        assert "because" not in explanation.text()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_explains_a_new_user_as_it_recommends_to_one(name, trained: Trained):
    rec = kgrec.load(trained(f"model={name}"))
    explanation = rec.explain("anna", "item5", history=["item1", "item2"])
    assert explanation.user == "anna"
    recommended = rec.recommend(history={"anna": ["item1", "item2"]}, k=1)
    assert explanation.source == recommended["source"][0]
    if rec.model.fold_in_method is None:
        assert explanation.method == "popularity"
        return
    assert explanation.source.startswith("fold-in")
    liked = {c.item.id for c in explanation.contributions if c.item}
    liked |= {named.id for c in explanation.contributions for named in c.history}
    assert liked <= {"item1", "item2"}
    assert rec.explain(None, "item5", history="item1").user == "new"
    assert rec.explain("b", "item5", history={"a": "item1", "b": "item2"}).user == "b"


def test_common_neighbours_are_counted_for_the_whole_history_at_once(rec):
    graph = rec.data.neighborhood

    def pairs(item: int) -> set[tuple[int, int]]:
        place = slice(int(graph.indptr[item]), int(graph.indptr[item + 1]))
        columns = graph.relations[place].tolist(), graph.neighbors[place].tolist()
        return set(zip(*columns, strict=True))

    history = torch.tensor([7, 3, 3, 0, 12])
    namer = Namer(rec.data, history)
    for item in range(len(rec.item_ids)):
        expected = {liked: len(pairs(item) & pairs(liked)) for liked in history.tolist()}
        assert namer.common(item) == expected
    assert namer._ranked(5, history) == sorted({0, 3, 7, 12}, key=lambda i: -namer.common(5)[i])


def test_shared_entities_and_history_are_in_the_data(rec):
    data = rec.data
    edges = {tuple(row) for row in data.triples.tolist()}
    edges |= {(t, r, h) for h, r, t in edges}
    relations = data.ids.relations["relation"].to_list()
    entities = data.ids.entities["entity"].to_list()
    history = rec.history("user3")["item"].to_list()
    number = {item: i for i, item in enumerate(data.ids.items["item"].to_list())}
    checked = 0
    for item in rec.recommend("user3", k=5)["item"]:
        for reason in rec.explain("user3", item, top=10).contributions:
            node = number[item]
            for step in reason.steps:
                entity = entities.index(step.entity.id)
                assert (node, relations.index(step.relation), entity) in edges
                node = entity
            first = reason.steps[0]
            for liked in reason.history:
                assert liked.id in history
                assert liked.id != item
                if reason.steps[-1].item != liked.id:
                    key = relations.index(first.relation), entities.index(first.entity.id)
                    assert (number[liked.id], *key) in edges
                    checked += 1
    assert checked > 0


def test_a_user_of_whom_the_model_knows_nothing(trained: Trained):
    rec = kgrec.load(trained("model=kgcn", "split=cold_users", "protocol=clean"))
    cold = rec.users.filter(pl.col("positives") == 0)["user"][0]
    explanation = rec.explain(cold, "item5")
    assert explanation.source != "model"


def test_relations_of_the_user(rec):
    frame = rec.explain("user3", "item5").relations
    assert frame.columns == ["relation", "name", "score"]
    assert frame["score"].to_list() == sorted(frame["score"], reverse=True)
    model = rec.model
    user = int(rec.user_ids.numbers("user3")[0])
    scores = model.user_relation_scores(model.user_embedding.weight[user][None])[0].detach()
    assert frame["score"][0] == pytest.approx(float(scores.max()))


@pytest.mark.parametrize("name", MODELS)
def test_similar_items(name, trained: Trained):
    rec = kgrec.load(trained(f"model={name}"))
    if name in (
        "all_positive",
        "popularity",
        "popularity_balance",
        "popularity_prior",
        "unseen_item",
    ):
        with pytest.raises(DataError, match=f"found the model {name}, expected a model that comp"):
            rec.similar_items("item5")
        return
    frame = rec.similar_items("item5", k=4)
    assert frame.columns == ["rank", "item", "name", "similarity", "shared"]
    assert frame["rank"].to_list() == [1, 2, 3, 4]
    assert "item5" not in frame["item"]
    values = frame["similarity"].to_list()
    assert values == sorted(values, reverse=True)
    item, other = rec.item_ids.numbers(["item5", frame["item"][0]]).tolist()
    edges = rec.data.triples
    mine, theirs = (set(edges[edges[:, 0] == i, 2].tolist()) for i in (item, other))
    assert frame["shared"][0] == len(mine & theirs)
    few = rec.similar_items("item5", candidates=["item7", "item5", "item8"])
    assert set(few["item"]) == {"item7", "item8"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody", "item5"), "found user 'nobody'"),
        (("user3", "nothing"), "found item 'nothing'"),
        ((None, "item5"), "user: found none, expected an id"),
        ((["user3"], "item5"), "expected one id"),
        (("a", "item5", {"b": ["item1"]}), "found new user 'a'"),
        ((None, "item5", {"a": ["item1"], "b": ["item1"]}), "user: found none for 2 histories"),
        (("a", "item5", []), "history of a: found no item"),
        (("user3", "item5", None, 0), "top: found 0"),
    ],
)
def test_impossible_questions(arguments, message, rec):
    with pytest.raises(DataError, match=message):
        rec.explain(*arguments)


# ------------------------------------------------------------ English


@pytest.mark.parametrize(
    ("raw", "backwards", "words"),
    [
        ("film.film.directed_by", False, "directed by"),
        ("film.director.film", True, "director"),
        ("film.director.film", False, "film"),
        ("film.film_genre.films_in_this_genre", True, "film genre"),
        ("film.film.production_companies", False, "production company"),
        ("music.artist.origin", False, "origin"),
        ("genre", False, "genre"),
        ("Genre", True, "genre"),
        ("tags", False, "tag"),
        ("series", False, "series"),
        ("TV", False, "TV"),
        ("http://dbpedia.org/ontology/musicalBand", False, "musical band"),
        ("written-by", False, "written by"),
        ("3", False, "relation 3"),
        ("a.b", False, "a.b"),
        ("", False, "relation"),
        ("Größe (cm)", False, "größe (cm)"),
    ],
)
def test_relations_in_words(raw, backwards, words):
    assert wording.readable_relation(raw, backwards) == words


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("Godfather, The", "The Godfather"),
        ("Full Monty, The (1997)", "The Full Monty (1997)"),
        ("Good, the Bad and the Ugly, The", "The Good, the Bad and the Ugly"),
        ("Crouching Tiger, Hidden Dragon", "Crouching Tiger, Hidden Dragon"),
    ],
)
def test_titles(name, title):
    assert wording.readable_title(name) == title


def step(relation, entity, item=None, name="x"):
    reads = wording.readable_relation(relation)
    return NamedStep(relation, reads, Named(entity, name), item)


def reason(steps=(), history=(), item=None, relations=(), share=0.5):
    liked = tuple(Named(each, each) for each in history)
    return Contribution(1.0, share, tuple(steps), item and Named(item, None), relations, liked)


DIRECTOR = step("director", "m.1", name="Francis Ford Coppola")
BY = step("film.film.directed_by", "m.1", name="Francis Ford Coppola")
NAMELESS = step("film.film.set_in", "m.2", name=None)


@pytest.mark.parametrize(
    ("reason", "clause"),
    [
        (reason([DIRECTOR], ["Apocalypse Now"]),
         "you liked Apocalypse Now, which shares director Francis Ford Coppola"),
        (reason([DIRECTOR], ["A", "B"]),
         "you liked A and B, which share director Francis Ford Coppola"),
        (reason([DIRECTOR], ["A", "B", "C", "D", "E"]),
         "you liked A, B, C and 2 more, which share director Francis Ford Coppola"),
        (reason([BY], ["A"]), "you liked A, which is also directed by Francis Ford Coppola"),
        (reason([BY], ["A", "B"]),
         "you liked A and B, which are also directed by Francis Ford Coppola"),
        (reason([DIRECTOR]), "of its director Francis Ford Coppola"),
        (reason([BY]), "it is directed by Francis Ford Coppola"),
        (reason([NAMELESS]), "of m.2 (set in)"),
        (reason([NAMELESS], ["A"]), "you liked A, which shares m.2 (set in)"),
        (reason([step("sequel", "e1", "A", "A")], ["A"]),
         "you liked A, to which it is linked (sequel)"),
        (reason([DIRECTOR, step("director", "e1", "A", "A")], ["A"]),
         "you liked A, which shares director Francis Ford Coppola"),
        (reason([DIRECTOR, step("friend", "e1", "A", "A")], ["A"]),
         "you liked A, which is linked over director Francis Ford Coppola (friend)"),
        (reason([DIRECTOR, step("country", "e1", name="Italy")]),
         "of its director Francis Ford Coppola, and beyond it country Italy"),
        (reason([], item="127"), "you liked 127"),
        (reason([DIRECTOR], item="127"), "you liked 127 (director Francis Ford Coppola)"),
        (reason([DIRECTOR, step("country", "e1", name="Italy")], item="127"),
         "you liked 127 (director Francis Ford Coppola, then country Italy)"),
        (reason(relations=("genre",), history=["A"]), "you liked A, which is like it in genre"),
        (reason(relations=("genre", "tag")), "of its genre or tag"),
    ],
)  # fmt: skip
def test_clauses(reason, clause):
    assert _clause(reason) == clause


def explanation(*contributions, method=LEAVE_ONE_OUT):
    item, reasons = Named("127", "Godfather, The"), Reasons(1.0, method)
    return Explanation(
        "7", item, "kgcn", "model", reasons, contributions, 0, None, namer=None, number=0
    )


def test_sentences():
    both = explanation(reason([DIRECTOR], ["A"]), reason([step("genre", "g", name="Drama")]))
    assert both.text() == (
        "The Godfather, because you liked A, which shares director Francis Ford Coppola; "
        "because of its genre Drama."
    )
    assert both.why() == "because you liked A, which shares director Francis Ford Coppola"
    twice = explanation(reason([DIRECTOR]), reason([BY], ["A"]))
    assert twice.text() == "The Godfather, because of its director Francis Ford Coppola."
    negative = explanation(reason([DIRECTOR], share=-0.1))
    assert negative.text() == "The Godfather: no single reason raises its score."
    assert explanation(method="none").text() == "The Godfather: the model gives no reason."
    ease = explanation(reason(item="9"), reason(item="8"), method="exact")
    assert ease.text() == "The Godfather, because you liked 9 and 8."
    similar = explanation(reason(item="9", share=None), method="similar history")
    assert similar.text() == "The Godfather is similar to 9, which you liked."


# ------------------------------------------------------------ picture


@pytest.mark.slow
@pytest.mark.parametrize("H", [1, 2])
def test_labels_of_the_picture_do_not_overlap(H, trained: Trained, tmp_path, monkeypatch):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rec = kgrec.load(trained("model=kgcn", f"model.H={H}"))
    entities = rec.data.ids.entities.with_columns(name=pl.lit("WIDE WORDS " * 9))
    object.__setattr__(rec.data.ids, "entities", entities)
    boxes = []
    save = Figure.savefig

    def measured(figure, *args, **kwargs):
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes.extend(text.get_window_extent(renderer) for text in figure.axes[0].texts)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", measured)
    out = tmp_path / "why.png"
    rec.explain("user3", "item5").picture(out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert len(boxes) > 8
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_the_picture_shows_the_users_weights(rec, tmp_path):
    explanation = rec.explain("user3", "item5")
    explanation.picture(tmp_path / "why.svg")
    assert "<svg" in (tmp_path / "why.svg").read_text()
    terms = [t for t in explanation.reasons.terms if t.steps]
    root = picture.tree(explanation.namer, explanation.number, terms)
    weights = sorted((t.weight for t in terms if len(t.steps) == 1), reverse=True)
    assert [n.weight for n in root.children] == pytest.approx(weights)
    # A further edge has the attention at its own entity, not the product along the path.
    products = {round(t.weight, 5) for t in terms if len(t.steps) == 2}
    for node in root.children:
        for further in node.children:
            assert round(node.weight * further.weight, 5) in products


def test_pictures_that_cannot_be(rec, trained: Trained, tmp_path):
    with pytest.raises(DataError, match=r"picture: found .*why\.pdf, expected a file"):
        rec.explain("user3", "item5").picture(tmp_path / "why.pdf")
    with pytest.raises(DataError, match=r"expected a file .* in a folder that exists"):
        rec.explain("user3", "item5").picture(tmp_path / "no" / "why.svg")
    svd = kgrec.load(trained("model=svd"))
    with pytest.raises(DataError, match="picture: found svd without neighbours"):
        svd.explain("user3", "item5").picture(tmp_path / "why.svg")


def test_explaining_leaves_the_model_as_it_is(rec):
    before = {name: value.clone() for name, value in rec.model.state_dict().items()}
    rec.explain("user3", "item5")
    rec.similar_items("item5")
    for name, value in rec.model.state_dict().items():
        assert torch.equal(value, before[name])
