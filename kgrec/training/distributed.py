"""Processes that train one model on several devices: start, exchange and end (docs/distributed.md).

Each process has the whole model and its own rows of every step. Lightning starts the processes on
one machine; torchrun or SLURM starts them on several.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import warnings
from datetime import datetime
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch import Tensor
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from kgrec.errors import ConfigError
from kgrec.sharding.table import tables_of

# Environment variable with the time in the run folder's name, on which all processes must agree.
STARTED = "KGREC_STARTED"


class DDP(DDPStrategy):
    """DistributedDataParallel for the parameters that it can average.

    Tables with sparse gradients are averaged elsewhere, and buffers are equal on all processes.
    Both start with the values of rank 0, and are not sent in every step. A model that has only such
    tables is not wrapped.
    """

    def configure_ddp(self) -> None:
        """Gives all processes the same start values, and wraps the module."""
        module = self.lightning_module
        assert module is not None
        _check_same_gpus(self.root_device)
        buffers = dict(module.named_buffers())
        sharded = tables_of(module)  # each process has rows of its own
        hidden = {*getattr(module, "_ddp_params_and_buffers_to_ignore", ()), *buffers, *sharded}
        ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(module, sorted(hidden))  # type: ignore[no-untyped-call]
        parameters = dict(module.named_parameters())
        for name in sorted(hidden - set(sharded)):
            tensor = parameters[name].data if name in parameters else buffers[name]
            if tensor.numel():
                dist.broadcast(tensor, src=0)
        if any(p.requires_grad for name, p in parameters.items() if name not in hidden):
            super().configure_ddp()

    def on_exception(self, exception: BaseException) -> None:
        """Ends the processes that this process started: they may wait for it in a collective."""
        super().on_exception(exception)
        if isinstance(self.launcher, _SubprocessScriptLauncher):
            self.launcher.kill(signal.SIGKILL)

    def _configure_launcher(self) -> None:
        if _slurm_tasks() == 1:  # a batch script without srun: Lightning starts the others
            self.cluster_environment = LightningEnvironment()
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


class _Launcher(_SubprocessScriptLauncher):
    """Starts the other processes of this machine with the command of this process."""

    def launch(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        # Otherwise Lightning would choose a number of threads.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        return super().launch(function, *args, **kwargs)

    def _call_children_scripts(self) -> None:
        words = sys.argv
        program, _, command = words[0].rpartition(" ")
        if command == "train":  # for Hydra, "kgrec train" is one word
            sys.argv = [program, command, *words[1:]]
        try:
            super()._call_children_scripts()
        finally:
            sys.argv = words


def rank() -> int:
    """Number of this process among those that train one model; process 0 writes the results."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def joined() -> bool:
    """Whether this process is connected with the others."""
    return dist.is_available() and dist.is_initialized()


def is_first() -> bool:
    """Whether this process is rank 0, or the only one."""
    return not joined() or dist.get_rank() == 0


def _slurm_tasks() -> int:
    """Number of processes that SLURM started; 0 if torchrun or the user started them."""
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return 0
    return int(os.environ["SLURM_NTASKS"])


def begin(world_size: int) -> bool:
    """Silences this process unless it is the first; errors are still logged.

    Args:
        world_size: number of processes that train one model.

    Returns:
        Whether this process prints and writes.
    """
    if world_size == 1 or rank() == 0:
        return True
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    return False


def agree_on_start() -> None:
    """Gives all processes of torchrun the name of the run folder that rank 0 chooses."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store, number, _ = next(rendezvous("env://"))
        if number == 0:
            store.set(STARTED, f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}")
        os.environ[STARTED] = store.get(STARTED).decode()


def check_start(devices: int, nodes: int, multirun: bool, folder_given: bool) -> None:
    """Checks that the requested number of processes was started or can be started.

    Args:
        devices: number of devices of a node.
        nodes: number of machines.
        multirun: whether this is one of several jobs.
        folder_given: whether the command line names the run folder.

    Raises:
        ConfigError: another number of processes was started, or processes cannot be started.
    """
    torchrun = TorchElasticEnvironment.detect()
    started = int(os.environ["WORLD_SIZE"]) if torchrun else _slurm_tasks()
    from_outside = torchrun or started > 1  # otherwise Lightning starts them
    world_size = devices * nodes
    # Tasks of SLURM with one device each may be separate runs.
    if from_outside and started != world_size and (torchrun or world_size > 1):
        raise ConfigError(
            f"trainer.devices: found {devices} on each of {nodes} nodes (trainer.num_nodes), "
            f"expected {started} in all, the processes that "
            f"{'torchrun' if torchrun else 'SLURM'} has started"
        )
    if world_size == 1:
        return
    if multirun:
        raise ConfigError(
            f"trainer.devices: found {world_size} devices in a multirun, expected 1: "
            "several devices train one model in a single run"
        )
    if nodes > 1 and not from_outside:
        raise ConfigError(
            f"trainer.num_nodes: found {nodes}, expected a start by torchrun or srun on each of "
            "these machines (docs/distributed.md)"
        )
    if from_outside and not folder_given and STARTED not in os.environ:
        raise ConfigError(
            "hydra.run.dir: found none, expected the run folder that all processes share, such as "
            "hydra.run.dir=logs/runs/$SLURM_JOB_ID"
        )


def gather_rows(part: Tensor, device: torch.device | None = None) -> Tensor:
    """Concatenates the rows of all processes in the order of ranks.

    Args:
        part: (n, …) rows of this process; n differs between processes.
        device: device on which processes exchange tensors; None: that of the part.
    """
    if not joined():
        return part
    original, part = part.device, part.to(device or part.device)
    length = torch.tensor([len(part)], device=part.device)
    lengths = [torch.zeros_like(length) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, length)
    longest = max(int(n) for n in lengths)
    padded = part.new_zeros(longest, *part.shape[1:])
    padded[: len(part)] = part
    gathered = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(gathered, padded)
    rows = [tensor[: int(n)] for tensor, n in zip(gathered, lengths, strict=True)]
    return torch.cat(rows).to(original)


def close() -> None:
    """Disconnects the processes, so that only rank 0 continues; no wrapped module may be in use.

    The module that DistributedDataParallel wraps must be deleted before the process group. If it
    lives longer, it ends the group's threads while it holds Python's lock. A thread that still has
    a tensor to release waits for that lock, and both wait for ever (pytorch/pytorch issue 56297).
    """
    if joined():
        dist.barrier()
        gc.collect()  # a wrapped module to which only its own hooks refer
        dist.destroy_process_group()


def _check_same_gpus(device: torch.device) -> None:
    """Checks that all GPUs are of one model.

    Every process draws the whole epoch by itself, and GPUs of different models draw different
    numbers.
    """
    if device.type != "cuda":
        return
    names: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(names, torch.cuda.get_device_name(device))
    if len(set(names)) > 1:
        models = " and ".join(sorted(set(names)))
        raise ConfigError(f"trainer.devices: found {models}, expected GPUs of one model")
