"""Sizes that cannot work: one line that names the key, within seconds, without the memory."""

import io
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, composed, small
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgrec.config.checks import check
from kgrec.config.memory import fitting, message
from kgrec.config.messages import user_error
from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.data.synthetic.small import generate
from kgrec.errors import ConfigError
from kgrec.models.svd import SVD
from kgrec.training.allocation import (
    FACTORIES,
    BoundedAllocations,
    TooLarge,
    _itemsize,
    _shape,
)
from kgrec.training.memory import check_memory, check_rows

SIZES = (
    "d", "K", "H", "layers", "intents", "memory", "num_layers", "transe_d", "transe_epochs",
    "iterations", "user_K", "user_H",
)  # fmt: skip
WRONG = (0, -1, 10**9, 10**12, 10**30, float("nan"), None)
FREE = 2**27  # bytes, as if the machine had no more; a real one may have any size


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=FREE))


DATASET = paper(small(), RandomSplit())


def sized(group: DictConfig, key: str = "") -> list[str]:
    """Keys of the sizes of a model, also of models in it."""
    keys = []
    for name, value in group.items():
        if OmegaConf.is_dict(value):
            keys += sized(value, f"{key}{name}.")
        elif name in SIZES:
            keys.append(f"{key}{name}")
    return keys


def models() -> list[tuple[str, str]]:
    names = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
    return [(name, key) for name in names for key in sized(composed(f"model={name}").model)]


MODELS = models()


def test_every_model_with_sizes_is_tried():
    assert len({name for name, _ in MODELS}) >= 16
    assert {key.rpartition(".")[2] for _, key in MODELS} == set(SIZES)


@pytest.mark.parametrize(("model", "key"), MODELS, ids=[".".join(pair) for pair in MODELS])
def test_a_size_that_cannot_work_is_one_line_that_names_it(model, key):
    for wrong in WRONG:
        # The user graph is missing, so that its neighbours are bounded by their number alone.
        if wrong == 10**9 and key == "user_K":
            continue
        settings: Any = composed(f"model={model}", "paths.run=x", "paths.cache=null").model
        if model == "kgcn_two_ends":
            settings.ends = "item"
        OmegaConf.update(settings, key, [wrong] if key == "layers" else wrong)
        begin = time.perf_counter()
        with (
            pytest.raises((ConfigError, InstantiationException)) as caught,
            fitting("model", OmegaConf.to_container(settings)),
        ):
            instantiate(settings, DATASET)
        line = user_error(caught.value)
        assert line is not None, (wrong, caught.value)
        assert line.startswith(f"model.{key}: found "), (wrong, line)
        assert "expected " in line
        assert "\n" not in line
        assert time.perf_counter() - begin < 5


def test_tensors_are_refused_before_they_take_memory():
    size = FREE // 4 + 1
    with BoundedAllocations():
        for make in (
            lambda: torch.zeros(size),
            lambda: torch.empty((1, size)),
            lambda: torch.rand(size, generator=torch.Generator()),
            lambda: torch.randint(9, (size,), dtype=torch.int32),
            lambda: torch.arange(size // 2 + 1),
            lambda: torch.full([size], 1.0),
            lambda: torch.ones(2).new_zeros(size),
            lambda: torch.nn.Embedding(size, 1),
            lambda: torch.randn(size),
            lambda: torch.randperm(size),
            lambda: torch.eye(10**4),
        ):
            with pytest.raises(TooLarge, match="a tensor of "):
                make()
        assert torch.empty(size, device="meta").shape == (size,)
        with pytest.raises(TypeError):
            torch.empty("x")
        assert torch.equal(torch.arange(3), torch.tensor([0, 1, 2]))
        first, second = (
            torch.randn(4, generator=torch.Generator().manual_seed(1)) for _ in range(2)
        )
        assert torch.equal(first, second)


def test_sizes_are_those_that_torch_makes():
    x = torch.ones(2, dtype=torch.float64)
    for func, args, settings in (
        (torch.empty, (3, 4), {}),
        (torch.empty, ([3, 4],), {}),
        (torch.zeros, (torch.Size([2]),), {"dtype": torch.int8}),
        (torch.zeros, ((),), {}),
        (torch.ones, (), {"size": (2, 3)}),
        (torch.full, ((2,), 1.0), {}),
        (torch.full, (), {"size": (2,), "fill_value": 1.0}),
        (torch.rand, (3,), {}),
        (torch.randn, ((3, 1),), {}),
        (torch.randint, (5, (3,)), {}),
        (torch.randint, (1, 5), {"size": (3,), "dtype": torch.int32}),
        (torch.arange, (5,), {}),
        (torch.arange, (2, 9, 3), {}),
        (torch.arange, (), {"end": 4}),
        (torch.randperm, (4,), {}),
        (torch.eye, (3,), {}),
        (torch.eye, (3, 5), {}),
        (torch.Tensor.new_zeros, (x, 2, 3), {}),
        (torch.Tensor.new_ones, (x, (2, 3)), {}),
        (torch.Tensor.new_full, (x, (2,), 1.0), {}),
        (torch.Tensor.new_empty, (x, 4), {"dtype": torch.int8}),
    ):
        made = func(*args, **settings)
        assert func in FACTORIES
        assert _shape(func, args, settings) == made.shape, func
        assert _itemsize(func, args, settings) == made.element_size(), func


@pytest.mark.parametrize(
    ("model", "key", "wrong"),
    [
        ("lightckg", "kg_weight", 1e38),  # trained, it could not be read from its checkpoint
        ("blend", "weight", 1e308),
        ("ease", "l2", [1.0, 1e300]),
        ("itemknn", "shrinkage", [1e30]),
    ],
)
def test_a_number_that_would_overflow_is_refused(model, key, wrong):
    settings: Any = composed(f"model={model}", "paths.run=x", "paths.cache=null").model
    OmegaConf.update(settings, key, wrong)
    with pytest.raises(InstantiationException) as caught:
        instantiate(settings, DATASET)
    line = user_error(caught.value)
    assert line.startswith(f"model.{key}: found ")
    assert line.endswith("expected less than 4.6e+18")


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("threads=1000000", "threads: found 1000000, expected at most 1024"),
        ("cores=1000000", "cores: found 1000000, expected at most 1024"),
        ("optimizer.lr=nan", "optimizer.lr: found nan, expected a finite number"),
        ("optimizer.weight_decay=inf", "optimizer.weight_decay: found inf, expected a finite num"),
        ("batch_size=100000000000000000000", "batch_size: found 100000000000000000000, expected"),
    ],
)
def test_a_number_that_a_library_would_not_survive_is_refused(word, line):
    with pytest.raises(ConfigError, match=line):
        check(composed(word, "paths.run=x"))


def test_rows_of_an_epoch_are_counted_before_they_are_drawn():
    check_rows(1, 1000, torch.device("cpu"))
    with pytest.raises(
        ConfigError, match=r"negatives.ratio: found 9, with which an epoch has 50000"
    ):
        check_rows(9, 5_000_000, torch.device("cpu"))


def test_parameters_with_their_moments_are_counted_before_the_training():
    model = SVD(num_users=10**5, num_items=10, d=100)
    with pytest.raises(ConfigError, match=r"model: found 100000 × 100 numbers in user_embedding"):
        check_memory(model, torch.arange(10), 8, 1e9, torch.device("cpu"))


@pytest.mark.parametrize("word", ["noise", "taste", "popularity"])
def test_synthetic_data_are_drawn_with_finite_numbers(word):
    for wrong in (float("nan"), float("inf"), "x"):
        with pytest.raises(
            ConfigError, match=rf"dataset\.{word}: found {wrong!r}, expected a finite"
        ):
            generate(**{word: wrong})


def test_the_reason_is_the_factor_of_the_size_or_all_numbers():
    with (
        pytest.raises(
            ConfigError, match=r"^g\.a\.d: found 5000, which needs a tensor of 3 × 20000"
        ),
        fitting("g", {"a": {"d": 5000, "K": 3}, "seed": 2019, "name": "x"}),
    ):
        raise TooLarge((3, 20000), 10**12)
    with (
        pytest.raises(ConfigError, match=r"^g\.d: found 16, g\.l: found 40, which needs a tensor"),
        fitting("g", {"d": 16, "l": [3, 40]}),
    ):
        raise TooLarge((2**50, 60), 2**58)
    with pytest.raises(ValueError, match="another"), fitting("g", {}):
        raise ValueError("another")


def test_every_allocator_is_understood_wherever_it_fails():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert "memory: found a need of 4,294,967,296.00 GiB at once" in user_error(caught.value)
    with pytest.raises(MemoryError) as numpy:
        np.empty((2**40, 2**10))
    assert "memory: found a need of Unable to allocate" in user_error(numpy.value)
    with pytest.raises(RuntimeError) as overflow:
        torch.empty(2**62, 2**62)
    assert "more numbers than a computer can count" in user_error(overflow.value)
    of_gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has")
    assert "memory: found a need of 20.00 GiB, expected" in user_error(of_gpu)
    assert message(RuntimeError("another")) is None


class Full(io.BytesIO):
    """A file in memory that has no room for the numbers of a tensor."""

    def write(self, content: Any) -> int:
        if len(content) > 10_000:
            raise MemoryError
        return super().write(content)


def test_too_little_memory_for_a_checkpoint_is_one_line():
    with pytest.raises(RuntimeError) as failure:
        torch.save(torch.zeros(10_000), Full())
    assert "memory: found a need of more memory" in str(message(failure.value))
