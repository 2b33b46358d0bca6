"""Coverage-guided fuzzing with atheris: inputs that reach new code of kgrec are changed further.

libFuzzer, inside atheris, keeps a corpus of inputs and draws which one is changed; the changes are
those of :mod:`fuzzing.mutations`. An input is a folder, packed into one string of bytes.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzzing.mutations import Files, mutate
from fuzzing.oracle import Verdict

_SIZE = struct.Struct("<I")
_MOST = 1 << 20  # bytes of an input


def pack(files: Files) -> bytes:
    """A folder as one string of bytes."""
    parts = [part for name in sorted(files) for part in (name.encode(), files[name])]
    return b"".join(_SIZE.pack(len(part)) + part for part in parts)


def unpack(data: bytes) -> Files | None:
    """The folder in a string of bytes; None where it is none."""
    parts, at = [], 0
    while at + _SIZE.size <= len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        if at + size > len(data):
            return None
        parts.append(data[at : at + size])
        at += size
    try:
        names = [part.decode() for part in parts[::2]]
    except UnicodeDecodeError:
        return None
    plain = all(name and Path(name).parts[0] not in ("..", "/") for name in names)
    return dict(zip(names, parts[1::2], strict=True)) if plain and len(parts) % 2 == 0 else None


def instrument() -> None:
    """Has atheris count the branches of all modules of kgrec that are imported from now on."""
    import atheris

    atheris.instrument_imports(include=["kgrec"]).__enter__()


def fuzz(
    read: Callable[[Files], Verdict], seeds: list[Files], patterns: tuple[str, ...], runs: int,
    seed: int, corpus: Path,
) -> None:  # fmt: skip
    """Tries inputs with libFuzzer, which ends this process.

    Args:
        read: function that reads and judges an input.
        seeds: folders to begin with.
        patterns: names of the files that change.
        runs: number of inputs.
        seed: seed of libFuzzer; not 0.
        corpus: folder of inputs that reach different code; it is read and added to.
    """
    import atheris

    corpus.mkdir(parents=True, exist_ok=True)
    for number, files in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(pack(files))

    def one_input(data: bytes) -> None:
        if (files := unpack(data)) is not None:
            read(files)

    def mutator(data: bytes, most: int, chance: int) -> bytes:
        luck = Random(chance)
        files = unpack(data) or luck.choice(seeds)
        changed = pack(mutate(files, seeds, patterns, luck))
        return changed if len(changed) <= most else pack(luck.choice(seeds))

    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={_MOST}", "-timeout=600",
               "-rss_limit_mb=0", "-handle_abrt=0", "-handle_segv=0", "-print_final_stats=1",
               "-detect_leaks=0"]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input, custom_mutator=mutator)
    atheris.Fuzz()
