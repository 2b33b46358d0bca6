"""Readers of what is typed: overrides of the configuration, and options of commands on a run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fuzzing.mutations import Files
from fuzzing.target import Target
from fuzzing.targets.runs import train
from fuzzing.targets.small_files import encoded
from kgrec.commands.run_choice import relation_weights, split_items
from kgrec.errors import ConfigError
from kgrec.files import expand_home
from kgrec.inference.loaded_model import LoadedModel
from kgrec.inference.loading import load

OVERRIDES = (
    "dataset=music\nmodel.K=8\noptimizer.lr=1e-3\nepochs=3\n",
    "model=svd\nprotocol=clean\nranking.ks=[5,10]\nmonitor=val/auc\nsplit=temporal\n",
    "+trainer.foo=1\n~negatives.name\nloss=softmax\naveraging=ema\nmemory_budget=4 GB\n",
    "negatives=shared\nseed=1\nthreads=2\ntrainer.devices=1\ndataset.root='a b'\n",
)
CHOICES = "director=2\nmade by=0.5\n---\nitem1, item2,item3\n---\nuser0\nuser1\n"


def read_overrides(folder: Path) -> Any:
    """Composes and checks a configuration as ``kgrec train`` does."""
    from kgrec.config.checks import check, check_words
    from kgrec.config.messages import any_user_error
    from kgrec.config.targets import check_targets

    text = (folder / "overrides.words").read_text(encoding="utf-8", errors="replace")
    words = [expand_home(word) for word in text.split("\n") if word.strip()]
    try:
        check_words(words)
        cfg = _composed(words)
        check(cfg)
        check_targets(cfg)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(any_user_error(error) or str(error)) from error
    return str(cfg)


def _composed(words: list[str]) -> DictConfig:
    from hydra import compose, initialize_config_dir

    from kgrec.config.location import conf_dir

    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        return compose("train", overrides=[*words, "paths.run=."])


_rec: list[LoadedModel] = []


def _begin(materials: Path) -> None:
    _rec[:] = [load(train(materials))]


@cache
def _choices(materials: Path) -> list[Files]:
    relations = load(train(materials)).relations["relation"]
    known = CHOICES.replace("director", relations[0])
    return encoded({"choices.words": CHOICES}, {"choices.words": known})


def read_choices(folder: Path) -> Any:
    """Recommends with what is typed: weights of relations, histories, users, candidates."""
    text = (folder / "choices.words").read_text(encoding="utf-8", errors="replace")
    weights, items, users = [*(part.split("\n") for part in text.split("---\n")), [], [], []][:3]
    rec = _rec[0]
    typed = [word for word in weights if word]
    chosen: Mapping[str, float] | None = relation_weights(typed) if typed else None
    known = rec.item_ids
    listed = split_items(",".join(items), known)
    rows: list[pl.DataFrame] = []
    if listed:
        rows.append(rec.recommend(history={"new": listed}, k=2, relation_weights=chosen))
        rows.append(rec.recommend("user0", k=1, candidates=listed))
    named = [user for user in users if user]
    if named:
        rows.append(rec.recommend(named, k=3, relation_weights=chosen))
    return [frame.rows() for frame in rows]


TARGETS = [
    Target("overrides", lambda _: encoded(*({"overrides.words": t} for t in OVERRIDES)),
           read_overrides, share=0.1, names_folder=False),
    Target("typed_choices", _choices, read_choices, share=1, names_folder=False, begin=_begin),
]  # fmt: skip
