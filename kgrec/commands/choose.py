"""``kgrec choose``: compare all models on one's own data within a budget of time."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.errors import ConfigError

if TYPE_CHECKING:
    from kgrec.sweeps.choose import Choice

SAMPLES = 1000  # bootstrap samples
FIXED = ("model", "hydra", "sweep", "ckpt_path", "trainer.max_time")  # keys that the command sets


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "choose",
        help="compare all models on your data, tuned alike within a time budget",
        description="Trains every model with its own settings, then searches settings with the "
        "same number of trials for each, then runs the best setting of each with several seeds, "
        "as far as the time allows. Ends with a verdict. The same command resumes.",
        epilog="examples: kgrec choose dataset=custom dataset.root=my/shop --minutes 60; "
        "kgrec choose dataset=music --models kgcn libfm bprmf --minutes 30 --trials 10",
    )
    parser.add_argument(
        "words", nargs="*", metavar="KEY=VALUE", help="settings as for kgrec train, but no model"
    )
    parser.add_argument(
        "--minutes", type=float, default=60.0,
        help="budget of time for all runs; the verdict comes on top (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="NAME",
        help="models to tune (default: all); popularity, ease and itemknn are always there",
    )  # fmt: skip
    parser.add_argument(
        "--trials", type=int, default=20,
        help="most trials of a model, its own settings included (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", type=int, default=3, help="seeds of the last step (default: %(default)s)"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="folder (default: one in logs/choose, by the command)"
    )
    parser.set_defaults(run=run, rest="words")


def run(arguments: argparse.Namespace) -> None:
    """Compares the models, and prints the table and the verdict."""
    from kgrec.sweeps.choose import tuned_models

    # argparse gives --models the settings that follow it.
    names = [word for word in arguments.models if "=" not in word]
    words = [*arguments.words, *(word for word in arguments.models if "=" in word)]
    _check(arguments, words)
    choice = _choice(arguments, words, tuned_models(names, arguments.trials))
    choice.run()
    _conclude(choice)


def _check(arguments: argparse.Namespace, words: list[str]) -> None:
    """Refuses numbers and settings that cannot work."""
    if not 0 < arguments.minutes < math.inf:
        raise ConfigError(f"--minutes: found {arguments.minutes:g}, expected a number above 0")
    for name in ("trials", "seeds"):
        if (value := getattr(arguments, name)) < 1:
            raise ConfigError(f"--{name}: found {value}, expected at least 1")
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if "=" not in word:
            raise ConfigError(f"{word}: found no setting, expected key=value, as for kgrec train")
        if any(key == fixed or key.startswith((f"{fixed}.", f"{fixed}/")) for fixed in FIXED):
            hint = "; --models names the models" if key == "model" else ""
            raise ConfigError(f"{word}: found a setting that kgrec choose sets itself{hint}")


def _choice(arguments: argparse.Namespace, words: list[str], models: list[str]) -> Choice:
    """The comparison, after a check that its settings can be composed."""
    from kgrec.config.checks import check
    from kgrec.pipeline.in_process import composed
    from kgrec.sweeps.choose import Choice
    from kgrec.sweeps.state import folder_name
    from kgrec.sweeps.timed import Clock

    identity = [sorted(words), models, arguments.trials, arguments.seeds]
    with composed([*words, "hydra.run.dir=."], Path()) as cfg:
        check(cfg)
        seed, monitor = int(cfg.seed), str(cfg.monitor)
        dataset = str(cfg.dataset.get("name") or "synthetic")
        logs = Path(cfg.paths.logs)
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
    name = folder_name([f"{dataset}-{digest}"])  # the data set may have any name
    path = Path(arguments.out) if arguments.out else logs / "choose" / name
    seeds = list(range(seed, seed + arguments.seeds))
    overrides = [word for word in words if not word.startswith("seed=")]
    clock = Clock(60 * arguments.minutes)
    return Choice(path.absolute(), overrides, models, arguments.trials, seeds, monitor, clock)


def _conclude(choice: Choice) -> None:
    """Prints the table, the verdict, what was not tried, and the next commands."""
    from rich.console import Console

    from kgrec.evaluation.results import BASELINE
    from kgrec.reports.console import terminal_width
    from kgrec.reports.results.choice import choice_verdict, ranked_models
    from kgrec.reports.results.compare import compare
    from kgrec.reports.results.compared_systems import ComparedSystem, ComparedSystems
    from kgrec.reports.results.comparison_table import comparison_table, usual_metrics
    from kgrec.runs.finished import Run

    console = Console(width=terminal_width(), highlight=False)
    lines = []
    if seeds := choice.shared_seeds():
        runs = {
            model: [Run.read(own[seed].path) for seed in seeds]
            for model in choice.everyone
            if (own := choice.runs(model))
        }
        # The monitor of a small catalogue has another cut-off than the configuration's.
        monitor = str(next(iter(runs.values()))[0].config["monitor"])
        ranked = ranked_models(runs, monitor)
        others = [system for system in ranked if system.label != BASELINE]
        if BASELINE in runs and others:
            control = ComparedSystem(BASELINE, list(runs[BASELINE]))
            group = ComparedSystems(control, others, "the control")
            metrics = list(dict.fromkeys([monitor.removeprefix("val/"), *usual_metrics(group)]))
            table = comparison_table(group, compare(group, metrics, SAMPLES), console.width)
            console.print(table)
        lines = ["", *choice_verdict(ranked, monitor)]
    else:
        lines.append(
            f"No verdict: no model has finished within {choice.clock.budget / 60:g} minutes."
        )
    lines += _tried(choice)
    if seeds:
        best = choice.best(ranked[0].label)
        assert best is not None
        where = _relative(best.folder.path)
        setting = " ".join(best.settings) or "its own settings"
        lines += [
            f"Its setting: {setting}.",
            "Next, the same model on all data, and recommendations from it:",
            f"  kgrec refit {where}",
            "  kgrec recommend latest --user ID",
        ]
    for line in lines:
        console.print(line, markup=False)


def _tried(choice: Choice) -> list[str]:
    """Sentences on trials, on models that were not tried, and on what the time did not allow."""
    counts = {model: choice.count(model) for model in choice.models}
    tried = {model: count for model, count in counts.items() if count}
    lines = []
    if tried:
        least, most = min(tried.values()), max(tried.values())
        words = f"{least}" if least == most else f"{least} to {most}"
        trials = "trial" if most == 1 else "trials"
        lines.append(f"Each of {', '.join(tried)} had {words} {trials} of at most {choice.trials}.")
    for model, error in choice.errors.items():
        lines.append(f"{model} failed: {error}")
    missing = [m for m in choice.everyone if not choice.count(m) and m not in choice.errors]
    if missing:
        lines.append(f"Not tried for lack of time: {', '.join(missing)}.")
    if not choice.complete:
        lines.append(
            "The time was up before everything was tried; the same command with more --minutes "
            "resumes."
        )
    return lines


def _relative(path: Path) -> Path:
    """A path as the user would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
