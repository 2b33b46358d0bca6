"""Mutations of the files of a folder, chosen by their kind and repeatable by their seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from random import Random

from polars.exceptions import PanicException

from fuzzing.mutations import archives, delimited, documents, octets, parquet

Files = dict[str, bytes]
Mutation = Callable[[bytes, Random], bytes]

_TEXT: tuple[Mutation, ...] = (*delimited.ALL, *delimited.ALL, *octets.ALL)
LARGEST = 1 << 18  # bytes of a changed file
# Mutations by the end of a file's name; other files are changed byte by byte.
KINDS: dict[str, tuple[Mutation, ...]] = {
    **dict.fromkeys((".txt", ".dat", ".csv", ".tsv", ".inter", ".link", ".kg", ".item", ".user",
                     ".words", ".log"), _TEXT),
    ".json": (*[documents.as_json] * 8, documents.trick, *octets.ALL),
    ".jsonl": (*[documents.as_lines] * 8, documents.trick, *octets.ALL),
    ".yaml": (*[documents.as_yaml] * 8, documents.trick, documents.trick, *octets.ALL),
    ".parquet": (*parquet.ALL, *parquet.ALL, *octets.ALL),
    ".ckpt": (*[archives.checkpoint] * 8, *[archives.entries] * 4, *octets.ALL),
    ".safetensors": (*[archives.safetensors] * 8, *octets.ALL),
}  # fmt: skip


def mutations_of(name: str) -> tuple[Mutation, ...]:
    """The mutations of a file by its name."""
    return next((kind for end, kind in KINDS.items() if name.endswith(end)), octets.ALL)


def mutable(files: Files, patterns: Sequence[str]) -> list[str]:
    """The files whose names match one of the patterns."""
    return sorted(name for name in files if any(fnmatch(name, pattern) for pattern in patterns))


def mutate(files: Files, seeds: Sequence[Files], patterns: Sequence[str], luck: Random) -> Files:
    """A folder with one to three changes.

    Args:
        files: the folder: name and content of each file.
        seeds: folders from which content is taken.
        patterns: names of files that may change.
        luck: source of all random choices.
    """
    changed = dict(files)
    for _ in range(luck.choice((1, 1, 1, 2, 3))):
        names = mutable(changed, patterns)
        if not names:
            break
        name = luck.choice(names)
        if luck.random() < 0.03:
            _rearrange(changed, name, names, luck)
        elif luck.random() < 0.05:
            donor = luck.choice(seeds)
            other = donor.get(name) or luck.choice(list(donor.values()))
            changed[name] = octets.splice(changed[name], other, luck)
        else:
            changed[name] = mutated(changed[name], luck.choice(mutations_of(name)), luck)
    return changed


def mutated(data: bytes, mutation: Mutation, luck: Random) -> bytes:
    """One change; a file that is no longer of its kind is changed byte by byte."""
    try:
        return mutation(data, luck)[:LARGEST]
    except (Exception, PanicException):  # of the readers and writers that mutations use
        return octets.flip(data, luck)


def _rearrange(files: Files, name: str, names: Sequence[str], luck: Random) -> None:
    """Removes a file, or swaps it with another one."""
    other = luck.choice(names)
    if other == name or luck.random() < 0.5:
        del files[name]
    else:
        files[name], files[other] = files[other], files[name]
