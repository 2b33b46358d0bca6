"""Mapped parts of files: the right bytes, and no memory for what is only read."""

import sys
from pathlib import Path

import pytest
import torch

from kgrec.runs.saved_files import map_file, read_saved


@pytest.mark.parametrize("begin", [0, 5, 4095, 4096, 70_001])
def test_a_part_of_a_file(begin, tmp_path: Path):
    content = torch.arange(100_000).to(torch.uint8)
    (tmp_path / "file").write_bytes(content.numpy().tobytes())
    with (tmp_path / "file").open("rb") as file:
        parts = [map_file(file, begin, length, writable=False) for length in (0, 7, None)]
    for part, length in zip(parts, (0, 7, 100_000 - begin), strict=True):
        assert torch.equal(part, content[begin : begin + length])


@pytest.mark.parametrize("writable", [True, False])
def test_mapped_tensors_of_torch_save(writable, tmp_path: Path):
    saved = {"a": torch.arange(10_000.0), "b": torch.arange(7)}
    torch.save(saved, tmp_path / "file")
    read = read_saved(tmp_path / "file", mapped=True, writable=writable)
    assert all(torch.equal(read[name], saved[name]) for name in saved)
    if writable:  # changes stay in memory
        read["a"] += 1
        assert torch.equal(read_saved(tmp_path / "file")["a"], saved["a"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("writable", [True, False])
def test_what_is_only_read_is_not_limited_by_ulimit(writable, tmp_path: Path):
    def limited() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmData")).split()[1])

    size, before = 2**30, limited()
    with (tmp_path / "file").open("wb") as file:
        file.truncate(size)  # takes no room on the disk
    with (tmp_path / "file").open("rb") as file:
        numbers = map_file(file, writable=writable)
    assert int(numbers[-1]) == 0
    assert (limited() - before >= size // 2) == writable
