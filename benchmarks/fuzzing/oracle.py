"""What a reader may do with any input: accept it, or refuse it in one clear line."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from fuzzing.target import Target
from kgrec.errors import LONGEST, KgrecError

ACCEPTED, REFUSED = "accepted", "refused"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
# Messages of several lines: what a folder could hold, and what a table cannot.
_LISTS = ("expected the files of one format:", "these files cannot hold", "found no table with",
          "its files were not found")  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """The result of one input.

    Attributes:
        outcome: ACCEPTED, REFUSED, or the kind of a finding.
        signature: text that equal findings share.
        detail: message, or stack trace.
    """

    outcome: str
    signature: str = ""
    detail: str = ""

    @property
    def finding(self) -> bool:
        """Whether kgrec has a fault."""
        return self.outcome not in (ACCEPTED, REFUSED)


def judge(target: Target, folder: Path, twice: bool = False) -> Verdict:
    """Reads a folder, and judges what the reader does.

    Args:
        target: the reader.
        folder: its input.
        twice: whether to read an accepted input again, to see that the result is the same.
    """
    try:
        result = target.read(folder)
        if twice and target.read(folder) != result:
            return Verdict("two results", f"{target.name}: two results")
    except (KgrecError, OSError) as error:
        fault = _fault(str(error), target, folder)
        if fault is None:
            return Verdict(REFUSED, detail=str(error))
        place = _place(error.__traceback__)
        return Verdict("message", f"{fault} {place}", f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a PanicException of polars is no Exception
        kind = "memory" if isinstance(error, MemoryError) else "trace"
        trace = "".join(traceback.format_exception(error))
        return Verdict(kind, f"{type(error).__name__} {_place(error.__traceback__)}", trace)
    return Verdict(ACCEPTED)


def _fault(message: str, target: Target, folder: Path) -> str | None:
    """What is wrong with a message; None if it is as it should be."""
    if target.names_folder and str(folder) not in message:
        return "message without its file:"
    if len(message) > LONGEST:
        return "long message:"
    if "\n" in message and not any(words in message for words in _LISTS):
        return "message of several lines:"
    if _CONTROL.search(message.replace(str(folder), "")):
        return "message with control characters:"
    if not message.strip():
        return "empty message:"
    return None


def _place(trace: TracebackType | None) -> str:
    """The innermost function of kgrec in a stack trace."""
    frames = traceback.extract_tb(trace)
    own = [frame for frame in frames if "/kgrec/" in frame.filename]
    if not own:
        return frames[-1].name if frames else "nowhere"
    return f"{own[-1].filename.rpartition('/kgrec/')[2]}:{own[-1].name}"


def same(first: Any, second: Any) -> bool:
    """Whether two verdicts are of the same finding."""
    return bool(first.signature == second.signature and first.outcome == second.outcome)
