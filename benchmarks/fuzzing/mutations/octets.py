"""Mutations of bytes, for files of any kind."""

from __future__ import annotations

from random import Random

from fuzzing.mutations.values import MAGIC, NUMBERS


def flip(data: bytes, luck: Random) -> bytes:
    """Changes single bits."""
    changed = bytearray(data)
    for _ in range(luck.choice((1, 1, 2, 8))):
        if changed:
            changed[luck.randrange(len(changed))] ^= 1 << luck.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, luck: Random) -> bytes:
    """Writes random or special bytes over others."""
    at = luck.randrange(len(data) + 1)
    new = luck.choice((luck.randbytes(luck.choice((1, 4, 8))), luck.choice(MAGIC)))
    return data[:at] + new + data[at + len(new) :]


def insert(data: bytes, luck: Random) -> bytes:
    """Inserts special bytes, or a number."""
    at = luck.randrange(len(data) + 1)
    new = luck.choice((*MAGIC, luck.choice(NUMBERS).encode()))
    return data[:at] + new + data[at:]


def truncate(data: bytes, luck: Random) -> bytes:
    """Cuts the file off."""
    return data[: luck.randrange(len(data) + 1)]


def remove(data: bytes, luck: Random) -> bytes:
    """Removes a piece."""
    start, stop = _range(data, luck)
    return data[:start] + data[stop:]


def repeat(data: bytes, luck: Random) -> bytes:
    """Repeats a piece."""
    start, stop = _range(data, luck)
    times = luck.choice((2, 2, 3, 50))
    return data[:start] + data[start:stop] * times + data[stop:]


def move(data: bytes, luck: Random) -> bytes:
    """Moves a piece to another place."""
    start, stop = _range(data, luck)
    rest = data[:start] + data[stop:]
    at = luck.randrange(len(rest) + 1)
    return rest[:at] + data[start:stop] + rest[at:]


def integer(data: bytes, luck: Random) -> bytes:
    """Writes an extreme binary integer."""
    if len(data) < 8:
        return data
    size = luck.choice((2, 4, 8))
    value = luck.choice((0, 1, 0x7F, 0xFF, 1 << (8 * size - 1), (1 << 8 * size) - 1))
    at = luck.randrange(len(data) - size + 1)
    number = value.to_bytes(size, luck.choice(("little", "big")))
    return data[:at] + number + data[at + size :]


def empty(_: bytes, luck: Random) -> bytes:
    """Leaves nothing, or as good as nothing."""
    return luck.choice((b"", b"\n", b" ", b"\xef\xbb\xbf", b"\x00", b"\xff\xfe"))


def splice(data: bytes, other: bytes, luck: Random) -> bytes:
    """The beginning of a file and the end of another one."""
    return data[: luck.randrange(len(data) + 1)] + other[luck.randrange(len(other) + 1) :]


def _range(data: bytes, luck: Random) -> tuple[int, int]:
    start = luck.randrange(len(data) + 1)
    size = luck.choice((1, 2, 8, 64, len(data)))
    return start, min(len(data), start + luck.randint(0, size))


ALL = (flip, overwrite, insert, truncate, remove, repeat, move, integer, empty)
