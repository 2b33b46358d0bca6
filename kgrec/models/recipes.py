"""Rebuilds models from the recipe in a checkpoint, which may come from an untrusted source.

A recipe names a class and its arguments. Nothing is imported except from :mod:`kgrec.models` and
from packages that the caller trusts; nothing is called except subclasses of Recommender and
Aggregator; nothing large is allocated before its size agrees with the tensors of the checkpoint.
The numbers of these tensors are finite, and those that are rows of a table are in range, unless a
class of the user's own reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kgrec.errors import CheckpointError
from kgrec.models.importing import check_trusted, import_class, importing_only
from kgrec.models.index_tensors import check_index_tensors
from kgrec.models.recommender import LARGEST_NUMBER, Recommender
from kgrec.sharding.building import tables_without_memory

R = TypeVar("R", bound=Recommender)

PACKAGE = "kgrec.models"  # classes in it are always trusted
DTYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype)
}
DRAWS = (Tensor.normal_, Tensor.uniform_)
LONGEST_REASON = 300  # characters of an error that a message repeats
MOST_VALUES = 10_000  # values in a recipe, each counted wherever it is referred to


def rebuild(
    recipe: Mapping[str, Any],
    state: Mapping[str, Tensor],
    trust: Iterable[str] = (),
    in_place: bool = False,
) -> Recommender:
    """Builds a model from :meth:`Recommender.recipe` and fills it.

    Args:
        recipe: class path and arguments.
        state: the model's state dict.
        trust: dotted paths of further packages, modules or classes that the recipe may name.
        in_place: whether embedding tables are the tensors of the state, not copies of them. So
            memory need not hold a table that is mapped from a file.

    Raises:
        CheckpointError: the recipe names a class that is not a Recommender or not trusted; or
            class, arguments and state do not fit together.
    """
    path, trust = _class_path(recipe), tuple(trust)
    with importing_only((PACKAGE, *trust)):
        try:
            kind = import_class(path, Recommender)
            arguments = _checked(recipe.get("arguments"))
            _check_state(state)
            _check_claims(arguments, state)
            _check_sizes(kind, arguments, state, strict=not trust)
            if not trust:
                sizes = (arguments.get(name, 0) for name in ("num_users", "num_items"))
                check_index_tensors(state, *sizes)
            if in_place:
                return _around(kind, arguments, state)
            model = kind(**_with_tensors(arguments, torch.zeros))
            model.load_state_dict(state)
        except Exception as error:  # a constructor may raise anything for an odd argument
            reason = " ".join(str(error).split())[:LONGEST_REASON]
            raise CheckpointError(f"the model {path!r} cannot be rebuilt: {reason}") from error
    return model


def _around(kind: type[Recommender], arguments: Any, state: Mapping[str, Tensor]) -> Recommender:
    """A model whose embedding tables are the tensors of the state; all others are copied."""
    with _WithoutDraws(), tables_without_memory():
        model = kind(**_with_tensors(arguments, torch.zeros))
    expected = model.state_dict()
    tables = {n: state[n].to(t.dtype) for n, t in expected.items() if n in state and t.is_meta}
    copies = {name: value for name, value in state.items() if name not in tables}
    if expected.keys() != state.keys():
        raise CheckpointError(f"found {len(state)} tensors, expected {len(expected)}")
    model.load_state_dict(tables, strict=False, assign=True)
    model.load_state_dict(copies, strict=False)
    return model


def blank(recipe: Any, base: type[R]) -> R:
    """A model of a recipe that is a part of another model; the state dict of the whole fills it.

    Numbers that are not drawn are undefined until then.

    Args:
        recipe: class path and arguments.
        base: the class of which the model's must be a subclass.

    Raises:
        CheckpointError: there is no class, or the arguments are not plain values by name.
        ConfigError: the class is not trusted here, or not a subclass of ``base``.
    """
    kind = import_class(_class_path(recipe), base)
    with _WithoutDraws():
        return kind(**_with_tensors(_checked(recipe.get("arguments")), torch.zeros))


def _class_path(recipe: Any) -> str:
    if not isinstance(recipe, Mapping) or not isinstance(recipe.get("class"), str):
        raise CheckpointError("found a recipe without a class, expected class and arguments")
    return str(recipe["class"])


def trusted_by(recommender: Recommender) -> tuple[str, ...]:
    """Classes that a recommender consists of, which a checkpoint of its own run may name.

    Returns:
        The path of its class, and dotted paths among its arguments.
    """
    kind = type(recommender)
    return (f"{kind.__module__}.{kind.__qualname__}", *_paths(recommender.arguments))


def _paths(value: Any) -> list[str]:
    """Strings with a dot, at any depth."""
    if isinstance(value, str):
        return [value] if "." in value.strip(".") else []
    if isinstance(value, Mapping):
        value = list(value.values())
    return [path for part in value for path in _paths(part)] if isinstance(value, list) else []


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"shape", "dtype"}


def _checked(arguments: Any) -> dict[str, Any]:
    """The arguments of a recipe.

    Raises:
        CheckpointError: the arguments are not plain values by name.
        ConfigError: the arguments name code that is not trusted.
    """
    if not isinstance(arguments, Mapping) or not all(isinstance(name, str) for name in arguments):
        raise CheckpointError(f"found arguments {_short(arguments)}, expected values by name")
    left = [MOST_VALUES]
    for name, value in arguments.items():
        if _is_tensor(value):
            shape, dtype = value["shape"], value["dtype"]
            sizes = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
            if not sizes or not isinstance(dtype, str) or dtype not in DTYPES:
                raise CheckpointError(
                    f"{name}: found {_short(value)}, expected a list of sizes and the name of a "
                    "torch dtype"
                )
        else:
            _check_plain(name, value, left)
    return dict(arguments)


def _part_arguments(value: Any) -> Any:
    """Arguments in the recipe of a part, or None."""
    return value.get("arguments") if isinstance(value, Mapping) and "class" in value else None


def _check_claims(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuses arguments that describe more numbers, or count more rows, than the state has."""
    longest = max((max(value.shape, default=0) for value in state.values()), default=LARGEST_NUMBER)
    for name, value in arguments.items():
        if name.startswith("num_") and not (type(value) is int and 0 <= value <= longest):
            expected = f"expected an integer from 0 to {longest}"
            raise CheckpointError(f"{name}: found {_short(value)}, {expected}")
        if isinstance(inner := _part_arguments(value), Mapping):
            _check_claims(inner, state)
    claimed = sum(
        math.prod(value["shape"]) * DTYPES[value["dtype"]].itemsize
        for value in arguments.values()
        if _is_tensor(value)
    )
    if claimed > (size := sum(value.nbytes for value in state.values())):
        raise CheckpointError(f"found tensors of {claimed} bytes, expected at most {size}")


def _check_plain(name: str, value: Any, left: list[int]) -> None:
    """Refuses what is no plain value, and counts values down from ``left[0]``."""
    left[0] -= 1
    if left[0] < 0:
        raise CheckpointError(f"found more than {MOST_VALUES} values, expected fewer")
    if isinstance(value, Mapping):
        if isinstance(path := value.get("_target_"), str) and "." in path:
            check_trusted(path)
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, int | float) and not -LARGEST_NUMBER < value < LARGEST_NUMBER:
        raise CheckpointError(f"{name}: found {_short(value)}, expected a smaller, finite number")
    elif value is None or isinstance(value, bool | int | float | str):
        return
    else:
        raise CheckpointError(f"{name}: found a {type(value).__name__}, expected a plain value")
    for part in parts:
        _check_plain(name, part, left)


def _check_state(state: Any) -> None:
    """Refuses a state dict whose tensors claim more numbers than they hold."""
    if not isinstance(state, Mapping):
        raise CheckpointError(f"found a state of type {type(state).__name__}, expected tensors")
    for name, value in state.items():
        dense = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
        if not dense or value.nbytes > value.untyped_storage().nbytes():
            raise CheckpointError(f"{name}: found no tensor with numbers of its own, expected one")
        if value.is_complex():
            raise CheckpointError(f"{name}: found numbers of type {value.dtype}, expected real")
        if value.is_floating_point() and not is_finite(value):
            raise CheckpointError(f"{name}: found NaN or infinity, expected finite numbers")


def is_finite(numbers: Tensor) -> bool:
    """Whether all numbers are finite; takes no memory of their size, as ``isfinite`` does."""
    return not numbers.numel() or bool(torch.stack(numbers.aminmax()).isfinite().all())


def _check_sizes(
    kind: type[Recommender], arguments: dict[str, Any], state: Mapping[str, Tensor], strict: bool
) -> None:
    """Compares the sizes that the arguments ask for with the state, without allocating them.

    Args:
        kind: class to build.
        arguments: arguments of the class.
        state: state dict.
        strict: whether a class that cannot be built without memory is refused; a class of the
            user's own may read its tensors.
    """
    try:
        with _WithoutDraws(), torch.device("meta"):
            expected = kind(**_with_tensors(arguments, torch.empty)).state_dict()
    except (NotImplementedError, RuntimeError):
        if strict:
            raise
        return
    if names := sorted(expected.keys() ^ state.keys()):
        which = "no" if names[0] in expected else "an unknown"
        raise CheckpointError(f"found {which} tensor {names[0]}, expected {len(expected)} tensors")
    for name, value in expected.items():
        if value.is_floating_point() != state[name].is_floating_point():
            kinds = f"found numbers of type {state[name].dtype}, expected {value.dtype}"
            raise CheckpointError(f"{name}: {kinds}")
        if value.shape != state[name].shape:
            sizes = f"found {list(state[name].shape)}, expected {_short(list(value.shape))}"
            raise CheckpointError(f"{name}: {sizes}")


class _WithoutDraws(TorchFunctionMode):
    """Leaves out the draws of initial values, for which torch would import its compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The tensor itself for a draw; else the result of the function."""
        kwargs = kwargs or {}
        if func in DRAWS or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _with_tensors(arguments: dict[str, Any], make: Callable[..., Tensor]) -> dict[str, Any]:
    """The arguments, with a tensor for each description of a tensor."""
    return {
        name: make(tuple(value["shape"]), dtype=DTYPES[value["dtype"]])
        if _is_tensor(value)
        else value
        for name, value in arguments.items()
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}…"
