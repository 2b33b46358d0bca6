"""Values that readers stumble over: numbers, texts and bytes."""

from __future__ import annotations

import math
from random import Random
from typing import Any

NUMBERS = (
    "0", "-1", "1", "00", "007", "1.0", "1e5", "1e400", "-1e400", "1e-400", "nan", "NaN", "inf",
    "-inf", "Infinity", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
    "18446744073709551616", "4294967296", "2147483648", "1" + "0" * 40, "0x10", "1_000", "1,000",
    "1.000,5", "+5", "5.", ".5", "--1", "1e", "٣", "½", "20000000", "99999999", "0.1e1", "-0",
    "1" * 5000, "1e9", "1.7976931348623157e308", "5e-324", "253402300800", "-62135596801",
)  # fmt: skip

TEXTS = (
    "", " ", "\u00a0", "\t", "\x00", "\x1b[31m", "\x1e", "\r", "\ufeff", "\u202e", "\u2028",
    "\U0001f9e0", "ü", "e\u0301", "日本", "null", "None", "NA", "true", "user", "item", "head",
    "relation", "tail", "label", "rating", "'", '"', '""', "a,b", "a;b", "a|b", "a\tb", "a\nb",
    "#1", "../../x", "/etc/passwd", "a/b", ".", "..", "~", "${oc.env:HOME}", "${x}", "???",
    "<script>", "&amp;", "=1+1", "{{x}}", "%s", "{0}", "\\", "\\N", "[1, 2]", "{}", "a" * 3000,
    "2020-01-02", "2020-13-45", "99999-01-01", "0000-00-00", "12:00", "user_id:token",
    "item_id:token_seq", "org_id remap_id", "NaT",
)  # fmt: skip

MAGIC = (
    b"\x00", b"\x1e", b"\x1b", b"\r", b"\n", b"\r\n", b"\n\n", b"\t", b'"', b"'", b",", b";", b"|",
    b" ", b":", b"\xff", b"\xfe", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\x85",
    b"\xe2\x80\xa8", b"PAR1", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"\x80\x02", b"}", b"{",
    b"]", b"[", b"#", b"&", b"*", b"!!", b"${", b"---\n", b"\x7f",
)  # fmt: skip

_PLAIN: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**40, -(2**63) - 1, 0.5, 1e308, -0.0,
    math.nan, math.inf, -math.inf, "", [], {}, [[]], [None], {"": None}, [1, "a", None], "1", "x",
)  # fmt: skip


def plain(luck: Random) -> Any:
    """A value of JSON."""
    return luck.choice((luck.choice(_PLAIN), luck.choice(TEXTS), luck.choice(NUMBERS)))


def text(luck: Random) -> str:
    """A text or a number as text."""
    return luck.choice(luck.choice((NUMBERS, TEXTS)))
