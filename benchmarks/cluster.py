"""Two machines on one: network namespaces that a cable joins, or that share nothing but a folder.

``sweep``: workers of a shared sweep in namespaces without any network are killed with SIGKILL at
random moments, and start again. Metrics must equal those of a serial sweep, no finished job may run
again, and no two workers may run one job at a time. ``--without-locks`` makes flock do nothing, as
on a disk whose locks do not reach other machines; then a worker is also stopped for longer than its
lease and continued, and must end by itself.

``training``: torchrun starts one process in each namespace, and gloo joins them over the cable.
Weights must equal those of one process.

Needs root and the command ip (package iproute2); --without-locks needs gcc.

python benchmarks/cluster.py sweep
python benchmarks/cluster.py sweep --without-locks
python benchmarks/cluster.py training --trainer ddp
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

TRAIN = str(Path(__file__).parents[1] / "train.py")
SMALL = (
    "dataset=synthetic", "dataset.num_users=60", "dataset.num_items=40", "logger=csv",
    "dataset.positives_per_user=10", "dataset.attributes_per_relation=4", "threads=1",
    "trainer.accelerator=cpu", "patience=null",
)  # fmt: skip
SWEEP = ("-m", *SMALL, "epochs=60", "ranking=none", "model.K=2,4", "seed=1,2,3", "sweep=s")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
NO_LOCKS = "int flock(int file, int operation) { return 0; }\n"
SEEDS = range(1, 10**6)


def missing() -> str | None:
    """What this machine lacks for namespaces; None: nothing."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root"
    if shutil.which("ip") is None:
        return "needs the command ip (package iproute2)"
    probe = ["ip", "netns", "add", "kgrec-probe"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        return "needs network namespaces, which this machine refuses"
    _ip("netns delete kgrec-probe")
    return None


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


@contextlib.contextmanager
def machines(joined: bool) -> Iterator[list[str]]:
    """Two network namespaces: their names.

    Args:
        joined: whether a cable joins them; without one each has its loopback device only.
    """
    names = [f"kgrec-{os.getpid()}-{number}" for number in (0, 1)]
    try:
        for name in names:
            _ip(f"netns add {name}")
            _ip(f"-n {name} link set lo up")
        if joined:
            _ip(f"-n {names[0]} link add wire type veth peer name wire netns {names[1]}")
            for name, address in zip(names, ADDRESSES, strict=True):
                _ip(f"-n {name} address add {address}/24 dev wire")
                _ip(f"-n {name} link set wire up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def start(machine: str, words: Sequence[str], folder: Path, **env: str) -> subprocess.Popen[str]:
    """Starts a Python program on one of the machines."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"} | env
    with (folder / f"output-{time.monotonic_ns()}.txt").open("w") as output:
        return subprocess.Popen(
            ["ip", "netns", "exec", machine, sys.executable, *words],
            cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def metrics(folder: Path) -> dict[str, dict[str, float]]:
    """Of each job, the metrics that do not depend on time or memory."""
    return {
        path.parent.name: {
            key: value
            for key, value in json.loads(path.read_text()).items()
            if key.startswith(("val/", "test/", "train/epochs", "train/loss"))
        }
        for path in folder.glob("*/metrics.json")
    }


class Workers:
    """Workers of one shared sweep, half of them on each machine.

    Args:
        number: number of workers.
        names: names of the machines.
        folder: folder that all workers see.
        lease: seconds of the lease.
        env: environment variables of the workers.
    """

    def __init__(
        self, number: int, names: list[str], folder: Path, lease: float, env: dict[str, str]
    ) -> None:
        self._names, self._folder, self._env = names, folder, env
        self._words = [TRAIN, *SWEEP, "hydra.sweeper.shared=true", f"hydra.sweeper.lease={lease}"]
        self.processes = [self._start(i) for i in range(number)]
        self.most_at_once = 0

    def _start(self, number: int) -> subprocess.Popen[str]:
        name = self._names[number % len(self._names)]
        return start(name, self._words, self._folder, **self._env)

    def restart(self, number: int) -> None:
        """Waits for the end of a worker, and starts it again."""
        self.processes[number].wait()
        self.processes[number] = self._start(number)

    def training(self) -> dict[int, str]:
        """Workers that train now, and the log files of their jobs."""
        logs: dict[int, str] = {}
        for number, process in enumerate(self.processes):
            with contextlib.suppress(psutil.Error):
                for file in psutil.Process(process.pid).open_files():
                    if file.path.endswith("train.log"):
                        logs[number] = file.path
        jobs = list(logs.values())
        self.most_at_once = max([self.most_at_once, *(jobs.count(job) for job in jobs)])
        return logs

    def running(self) -> bool:
        """Whether a worker still runs."""
        self.training()
        return any(process.poll() is None for process in self.processes)


def sweep(folder: Path, count: int, kills: int, lease: float, no_locks: bool, seed: int) -> None:
    """Kills workers of a shared sweep, and compares its results with those of a serial one."""
    draw = random.Random(seed)
    (folder / "serial").mkdir()
    (folder / "shared").mkdir()
    env = {}
    if no_locks:
        source, library = folder / "no_locks.c", folder / "no_locks.so"
        source.write_text(NO_LOCKS)
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
        env["LD_PRELOAD"] = str(library)
    with machines(joined=False) as names:
        assert start(names[0], [TRAIN, *SWEEP], folder / "serial").wait() == 0
        workers = Workers(count, names, folder / "shared", lease, env)
        done = 0
        while workers.running() and done < kills:
            time.sleep(draw.uniform(0.3, 3))
            if training := workers.training():
                number = draw.choice(sorted(training))
                workers.processes[number].kill()
                workers.restart(number)
                done += 1
        stopped = no_locks and _stop(workers, lease)
        while workers.running():
            time.sleep(0.1)
    codes = [process.returncode for process in workers.processes]
    expected, shared = (metrics(folder / name / "logs/sweeps/s") for name in ("serial", "shared"))
    logs = [path.read_text() for path in (folder / "shared/logs/sweeps/s").glob("*/train.log")]
    claims = [len(list(path.iterdir())) for path in (folder / "shared").rglob("claims/*")]
    print(
        f"{count} workers, {done} kills{', flock off' if no_locks else ''}, exit codes {codes}; "
        f"claims of each job: {claims}; jobs that resumed: "
        f"{sum('resuming from' in log for log in logs)}; most workers at one job: "
        f"{workers.most_at_once}; metrics equal to a serial sweep: {shared == expected}"
        + (f"; the stopped worker ended by itself: {stopped}" if no_locks else "")
    )
    assert set(codes) == {0}
    assert len(expected) == 6
    assert shared == expected
    assert workers.most_at_once == 1
    assert [log.count("the results are in") for log in logs] == [1] * len(logs)
    assert stopped or not no_locks


def _stop(workers: Workers, lease: float) -> bool:
    """Stops a worker until another one has its job; returns whether it then ends by itself."""
    while not (training := workers.training()):
        if not workers.running():
            return False
        time.sleep(0.05)
    number, log = next(iter(training.items()))
    process = workers.processes[number]
    claims = Path(log).parents[1] / "claims" / Path(log).parent.name
    before = len(list(claims.iterdir()))
    process.send_signal(signal.SIGSTOP)  # it keeps its log open, so nothing is counted now
    begin = time.monotonic()
    while len(list(claims.iterdir())) == before:
        assert time.monotonic() - begin < 100 * lease, "nobody has taken the job over"
        time.sleep(0.05)
    process.send_signal(signal.SIGCONT)
    code = process.wait(timeout=60)
    workers.restart(number)
    return code == 1


def training(folder: Path, trainer: str) -> None:
    """Trains one model across both machines, and compares its results with one process."""
    words = (*SMALL, "epochs=3", "optimizer=lazy_adam", "model=svd", "hydra.run.dir=run")
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    with machines(joined=True) as names:
        assert start(names[0], [TRAIN, *words], folder / "one").wait() == 0
        torchrun = [
            "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
            f"--master-addr={ADDRESSES[0]}", "--master-port=29500",
        ]  # fmt: skip
        parts = ("trainer.devices=1", "trainer.num_nodes=2", f"trainer={trainer}")
        processes = [
            start(
                name,
                [
                    *torchrun,
                    f"--node-rank={rank}",
                    f"--local-addr={address}",
                    TRAIN,
                    *words,
                    *parts,
                ],
                folder / "two",
                GLOO_SOCKET_IFNAME="wire",
            )
            for rank, (name, address) in enumerate(zip(names, ADDRESSES, strict=True))
        ]
        codes = [process.wait() for process in processes]
        counter = ["ip", "-n", names[0], "-s", "-j", "link", "show", "wire"]
        sent = json.loads(subprocess.check_output(counter))[0]["stats64"]["tx"]["bytes"]
    assert codes == [0, 0], "".join(p.read_text() for p in (folder / "two").glob("output*"))
    one, two = (metrics(folder / name)["run"] for name in ("one", "two"))
    difference = max(abs(one[key] - two[key]) for key in one)
    print(
        f"trainer={trainer}, two namespaces: {sent:,} bytes sent over the cable by the first; "
        f"largest difference of a metric from one process: {difference:.1e}"
    )
    assert one.keys() == two.keys()
    assert difference < 1e-4


def main() -> None:
    """Runs one of the two proofs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=["sweep", "training"])
    parser.add_argument("--trainer", default="ddp", choices=["ddp", "sharded"])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--lease", type=float, default=4.0, help="seconds")
    parser.add_argument("--without-locks", action="store_true")
    parser.add_argument("--seed", type=int, default=random.choice(SEEDS))
    args = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(f"error: {reason}")
    print(f"seed {args.seed}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.what == "training":
            training(folder, args.trainer)
        else:
            sweep(folder, args.workers, args.kills, args.lease, args.without_locks, args.seed)


if __name__ == "__main__":
    main()
