"""Plain English for reasons: readable relations and titles, lists, and clauses."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST_LISTED = 3  # items that a clause names

_ARTICLE = re.compile(r"^(.+), (The|A|An|La|Le|Les|Il|El|Der|Die|Das)( \(.*\))?$")
_PARTICIPLE = re.compile(r"[^e]ed$")  # released, but not breed or speed
_VERBS = ("to", "in", "of", "at", "on", "for", "from", "with")


def readable_relation(raw: str, backwards: bool = False) -> str:
    """A relation in words, such as "directed by" for ``film.film.directed_by``.

    Args:
        raw: raw id or name: words, a Freebase name ``domain.type.property``, an IRI, a number.
        backwards: whether the triple leads to the item. A Freebase property then belongs to the
            other entity, whose type says what it is: "director" for ``film.director.film``.
    """
    raw = raw.strip()
    if "://" in raw:
        raw = re.split(r"[/#]", raw.rstrip("/#"))[-1]
    parts = raw.split(".")
    if len(parts) >= 3 and all(re.fullmatch(r"\w+", part) for part in parts):
        raw = parts[-2] if backwards else parts[-1]
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", raw).replace("_", " ").replace("-", " ")
    words = " ".join(words.split())
    if not words:
        return "relation"
    if words.isdigit():
        return f"relation {words}"
    return _singular(words if " " not in words and words.isupper() else words.lower())


def readable_title(name: str) -> str:
    """A title with its article in front: "The Godfather" for "Godfather, The"."""
    return _ARTICLE.sub(r"\2 \1\3", name)


def listed(names: Sequence[str], most: int = MOST_LISTED) -> str:
    """``a, b and c``; further names are counted."""
    shown = list(names[:most])
    if more := len(names) - len(shown):
        shown.append(f"{more} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def shared(liked: Sequence[str], relation: str, entity: str) -> str:
    """Clause on liked items that have a neighbour in common with the item.

    Args:
        liked: at least one name.
        relation: readable relation.
        entity: name of the neighbour.
    """
    several = len(liked) > 1
    start = f"you liked {listed(liked)}, which"
    if relation.endswith(" by"):
        return f"{start} {'are' if several else 'is'} also {relation} {entity}"
    return f"{start} {'share' if several else 'shares'} {_noun(relation, entity)}"


def own(relation: str, entity: str) -> str:
    """Clause on a neighbour that no liked item shares."""
    if relation.endswith(" by"):
        return f"it is {relation} {entity}"
    its = "" if _is_verb(relation) else "its "
    return f"of {its}{_noun(relation, entity)}"


def linked(liked: str, relation: str) -> str:
    """Clause on a liked item that is itself a neighbour."""
    return f"you liked {liked}, to which it is linked ({relation})"


def alike(liked: Sequence[str], relation: str) -> str:
    """Clause on liked items that are like the item by some relation, or on none."""
    if not liked:
        return f"of its {relation}"
    are = "are" if len(liked) > 1 else "is"
    return f"you liked {listed(liked)}, which {are} like it in {relation}"


def _singular(words: str) -> str:
    """The last word in the singular, since a relation is read with one entity."""
    if words.endswith("ies") and not words.endswith(("series", "species", "movies")):
        return f"{words[:-3]}y"
    if len(words) > 3 and words.endswith("s") and not words.endswith(("ss", "us", "is", "ies")):
        return words[:-1]
    return words[:-1] if words.endswith("movies") else words


def _noun(relation: str, entity: str) -> str:
    return f"{entity} ({relation})" if _is_verb(relation) else f"{relation} {entity}"


def _is_verb(relation: str) -> bool:
    """Whether a relation reads badly before a name, as "set in" does."""
    words = relation.split()
    if words[-1] in _VERBS or _PARTICIPLE.search(words[-1]):
        return True
    return words[0] in ("is", "has", "was", "relation")
