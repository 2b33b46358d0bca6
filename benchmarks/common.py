"""What the benchmarks share: processes of their own on one core, data, machine facts, tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KILO = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def run_alone(script: str, task: dict[str, Any], python: str = sys.executable) -> dict[str, Any]:
    """Runs a task in a process of its own, pinned to one core.

    Args:
        script: a file beside this one, which reads the task as JSON from its argument and prints
            what it measured as the last line.
        task: what to do.
        python: the interpreter.
    """

    def pin() -> None:
        if CORE is not None:
            os.sched_setaffinity(0, {CORE})

    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryDirectory() as scratch:  # where a peer may leave logs
        done = subprocess.run(
            [python, str(HERE / script), json.dumps(task)],
            check=False, capture_output=True, text=True, env=env, preexec_fn=pin, cwd=scratch,
        )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{script} {task}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def peak_gigabytes() -> float:
    """Most memory that this process ever held."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILO / 1e9


def compose(overrides: Sequence[str]) -> Any:
    """The configuration that these overrides give."""
    from hydra import compose, initialize_config_dir

    from kgrec.config.location import conf_dir

    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def load_dataset(overrides: Sequence[str]) -> Any:
    """The split data set of a configuration."""
    from hydra.utils import instantiate

    cfg = compose(overrides)
    return instantiate(cfg.protocol)(instantiate(cfg.dataset), instantiate(cfg.split))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import psutil
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, and the least and the greatest where there are several."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def write(folder: Path, name: str, found: dict[str, Any], table: str) -> None:
    """Leaves NAME.json and NAME.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    (folder / f"{name}.md").write_text(table + "\n")
    print(f"\nwritten to {folder / name}.json and .md")


def label_sizes(axes: Any, label: str, sizes: Sequence[float], decimals: int = 0) -> None:
    """Labels logarithmic axes whose x are numbers of rows, such as 20 M.

    Args:
        axes: axes of matplotlib.
        label: label of x.
        sizes: numbers of rows that are marked.
        decimals: digits after the point of a million.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xlabel(label)
    axes.set_xticks(sizes, [f"{size / 1e6:,.{decimals}f} M" for size in sizes])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
