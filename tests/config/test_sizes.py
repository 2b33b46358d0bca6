import pytest

from kgrec.config.sizes import parse_bytes
from kgrec.errors import ConfigError


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1000, 1000), ("1000", 1000), ("4 GB", 4 * 10**9), ("1.5gib", 1.5 * 2**30), ("2MB", 2e6)],
)
def test_sizes_are_read(size, expected):
    assert parse_bytes(size) == expected


@pytest.mark.parametrize("size", ["many", "4 TBB", 0, "-1", True, None])
def test_other_sizes_are_refused(size):
    with pytest.raises(ConfigError, match=r"memory_budget: found .*, expected bytes, such as 4 GB"):
        parse_bytes(size)
