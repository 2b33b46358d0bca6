"""What a pruner saves and loses: trials of a search that was run without one, in other orders.

    python train.py -m experiment=tune hydra/sweeper=optuna dataset=music model=svd sweep=full
    python benchmarks/pruning.py logs/sweeps/full

Each pruner sees the trials in random orders and the validation values of their epochs, which do not
change with the order. The table has the share of all epochs that are trained, how often the best
trial of all is found, how far the best trial that ends is below it, and the same loss of a search
without a pruner that ends after as many epochs. TPE would choose later trials by the earlier ones;
here they are the same in any order.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import optuna
import polars as pl
from common import markdown
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState

from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.state import FINISHED

Curves = list[list[float]]
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "halving, from 3 epochs": lambda: SuccessiveHalvingPruner(min_resource=3, reduction_factor=2),
    "halving, from 5 (default)": lambda: SuccessiveHalvingPruner(
        min_resource=5, reduction_factor=2
    ),
    "halving, from 10": lambda: SuccessiveHalvingPruner(min_resource=10, reduction_factor=2),
    "a third, from 5": lambda: SuccessiveHalvingPruner(min_resource=5, reduction_factor=3),
    "median of finished trials": lambda: MedianPruner(n_startup_trials=5, n_warmup_steps=5),
}


def curves_of(sweep: SweepFolder) -> Curves:
    """Validation values of the epochs of every finished trial."""
    monitor, curves = sweep.monitor, []
    for state in sweep.states():
        if state.state == FINISHED:
            values = pl.concat(
                [pl.read_csv(f) for f in sorted(state.folder.glob("curves/*/metrics.csv"))],
                how="diagonal",
            )
            curves.append(values.drop_nulls(monitor).sort("epoch")[monitor].to_list())
    return curves


def with_pruner(curves: Curves, pruner: BasePruner) -> tuple[int, float]:
    """Epochs that are trained, and the best value of a trial that ends."""
    study = optuna.create_study(
        direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    epochs, best = 0, 0.0
    for values in curves:
        trial = study.ask()
        for epoch, value in enumerate(values, 1):
            epochs += 1
            trial.report(value, epoch)
            if epoch < len(values) and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, max(values))
            best = max(best, *values)
    return epochs, best


def without_pruner(curves: Curves, budget: float) -> float:
    """The best value of trials one after another until the epochs of the budget are used."""
    best, left = 0.0, round(budget)
    for values in curves:
        if left <= 0:
            break
        best, left = max(best, *values[:left]), left - len(values[:left])
    return best


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sweep", type=Path, help="folder of a search without a pruner")
    parser.add_argument("--orders", type=int, default=150, help="random orders")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    curves = curves_of(SweepFolder.read(args.sweep))
    total, top = sum(map(len, curves)), max(map(max, curves))
    rows = []
    for name, make in PRUNERS.items():
        draw = random.Random(0)
        orders = [draw.sample(curves, len(curves)) for _ in range(args.orders)]
        epochs, bests = zip(*(with_pruner(order, make()) for order in orders), strict=True)
        cost = statistics.mean(epochs)
        fewer = statistics.mean(without_pruner(order, cost) for order in orders)
        same = statistics.mean(best == top for best in bests)
        cells = f"{cost / total:.0%}", f"{same:.0%}", f"{top - statistics.mean(bests):.4f}"
        rows.append([name, *cells, f"{top - fewer:.4f}"])
    print(f"{len(curves)} trials, {total} epochs, best {top:.4f}\n")
    print(markdown(["pruner", "epochs", "same best", "loss", "fewer trials"], rows))


if __name__ == "__main__":
    main()
