"""Configuration: precedence, groups that compose, keys that must exist."""

from pathlib import Path

import pytest
from conftest import ROOT, composed
from omegaconf import OmegaConf

import kgrec
from kgrec.config.checks import RANKING_METRICS, TOP_LEVEL_KEYS, check, check_ks, check_words
from kgrec.config.location import DEFAULT_SETTINGS, applied_hparams, conf_dir, missing_settings
from kgrec.config.targets import check_targets
from kgrec.errors import ConfigError
from kgrec.evaluation.ranking import METRICS

CONF = ROOT / "conf"


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def test_published_settings_are_table_1():
    found = {}
    for dataset in ("movie", "book", "music"):
        cfg = OmegaConf.load(CONF / "hparams" / "published" / f"{dataset}-kgcn.yaml")
        found[dataset] = (
            cfg.model.K, cfg.model.d, cfg.model.H, cfg.optimizer.weight_decay, cfg.optimizer.lr,
            cfg.batch_size,
        )  # fmt: skip
    assert found == {
        "movie": (4, 32, 2, 1e-7, 2e-2, 65536),
        "book": (8, 64, 1, 2e-5, 2e-4, 256),
        "music": (8, 16, 1, 1e-4, 5e-4, 128),
    }


def test_precedence():
    own = composed("settings=none", "dataset=music")
    assert (own.model.d, own.batch_size, own.optimizer.lr) == (32, 1024, 5e-3)
    published = composed("dataset=music")
    assert (published.model.d, published.batch_size, published.optimizer.lr) == (16, 128, 5e-4)
    typed = composed("dataset=music", "model.d=7", "batch_size=9")
    assert (typed.model.d, typed.batch_size, typed.optimizer.lr) == (7, 9, 5e-4)
    experiment = composed("experiment=released_music", "model.K=3")
    assert (experiment.model.scaling, experiment.model.d, experiment.model.K) == ("released", 16, 3)
    assert experiment.negatives.name == "static"
    assert experiment.protocol._target_.endswith("paper")


def test_the_default_model_keeps_its_own_settings_where_the_paper_has_none():
    cfg = composed()
    assert (cfg.dataset.name, cfg.model.d, cfg.batch_size) == ("movie-100k", 32, 1024)


def test_custom_data_are_evaluated_cleanly_unless_told_otherwise():
    assert composed("dataset=custom").protocol._target_.endswith("clean")
    assert composed("dataset=custom", "protocol=paper").protocol._target_.endswith("paper")
    assert composed("dataset=music").protocol._target_.endswith("paper")


def test_top_level_keys_are_the_ones_that_are_checked():
    assert set(composed()) == set(TOP_LEVEL_KEYS)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_and_tells_its_command(experiment):
    check(composed(f"experiment={experiment}", "paths.run=x"))
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    asked = "-m " if "sweeper:" in text else ""
    assert f"python train.py {asked}experiment={experiment}" in text


# Every model, every data set, every settings file; not every three together.
CHOICES = sorted(
    {("movie-100k", model, "none") for model in options("model")}
    | {(dataset, "kgcn", "published") for dataset in options("dataset")}
    | {(*p.stem.rsplit("-", 1), p.parent.name) for p in CONF.glob("hparams/*/*.yaml")}
)


@pytest.mark.parametrize(("dataset", "model", "settings"), CHOICES)
def test_every_choice_composes(dataset, model, settings):
    root = ["dataset.root=x"] if dataset == "custom" else []
    cfg = composed(f"dataset={dataset}", f"model={model}", f"settings={settings}", *root)
    whole = OmegaConf.merge(cfg, {"paths": {"run": "x"}})
    check(whole)
    check_targets(whole)


def test_every_settings_file_is_for_a_model_that_exists():
    for path in CONF.glob("hparams/*/*.yaml"):
        assert path.parent.name in options("settings")
        assert any(path.stem.endswith(f"-{model}") for model in options("model")), path


def test_every_key_of_the_main_file_has_a_comment():
    for path in (CONF / "train.yaml", CONF / "model" / "kgcn.yaml"):
        lines = path.read_text().splitlines()
        keys = [line for line in lines if ": " in line and not line.lstrip().startswith(("-", "#"))]
        bare = [line for line in keys if "#" not in line and "_" not in line.lstrip()[:1]]
        allowed = {"weight_decay", "lr", "batch_size", "epochs"} if "kgcn" in str(path) else set()
        assert [line for line in bare if line.strip().split(":")[0] not in allowed] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model": {"Hh": 3}},
            r"model\.Hh: found an unknown key, expected one of H, K, aggregator",
        ),
        (
            {"dataset": {"x": 1}},
            r"dataset\.x: found an unknown key, expected one of cache, columns, data_dir",
        ),
        ({"optimizer": {"learning_rate": 1}}, r"optimizer\.learning_rate: found an unknown key"),
        ({"split": {"x": 1}}, r"split\.x: found an unknown key, expected one of ratios"),
        ({"protocol": {"x": 1}}, r"protocol\.x: found an unknown key"),
        ({"colour": 1}, r"colour: found an unknown key, expected one of averaging"),
        ({"epochs": 0}, r"epochs: found 0, expected an integer >= 1$"),
        ({"epochs": None}, r"epochs: found None, expected an integer >= 1$"),
        ({"seed": -1}, r"seed: found -1, expected an integer from 0 to"),
        ({"patience": 1.5}, r"patience: found 1.5, expected an integer >= 1, or null"),
        ({"loss": {"name": "hinge"}}, r"loss\.name: found 'hinge', expected one of bce, bpr"),
        ({"loss": {"temperature": 0}}, r"loss\.temperature: found 0, expected a number above 0"),
        ({"loss": {"correction": "no"}}, r"loss\.correction: found 'no', expected true or false"),
        ({"averaging": {"name": "mean"}}, r"averaging\.name: found 'mean', expected one of ema"),
        (
            {"averaging": {"name": "ema", "decay": 1.0}},
            r"averaging\.decay: found 1\.0, expected a number between 0 and 1",
        ),
        (
            {"averaging": {"name": "swa", "start": -1}},
            r"averaging\.start: found -1, expected an integer >= 0",
        ),
        ({"batch_size": "big"}, r"batch_size: found 'big', expected an integer >= 1"),
        ({"model": {"_target_": "no.such.Model"}}, r"model\._target_: found the path 'no\.such"),
    ],
)
def test_what_is_refused(change, message):
    cfg = OmegaConf.create(OmegaConf.to_container(composed("paths.run=x"), resolve=True))
    wrong = OmegaConf.merge(cfg, change)

    def checks() -> None:
        check(wrong)
        check_targets(wrong)

    with pytest.raises(ConfigError, match=message):
        checks()


def test_it_says_which_settings_were_applied():
    choices = {"settings": "published", "dataset": "music", "model": "kgcn"}
    assert applied_hparams(choices) == "settings: conf/hparams/published/music-kgcn.yaml"
    assert "model's own" in applied_hparams(choices | {"dataset": "synthetic"})


def test_settings_that_were_asked_for_and_are_not_there_are_a_warning():
    choices = {"settings": "tuned", "dataset": "music", "model": "kgcn"}
    assert missing_settings(choices) is None
    assert missing_settings(choices | {"dataset": "custom", "settings": "none"}) is None
    assert missing_settings(choices | {"dataset": "custom", "settings": DEFAULT_SETTINGS}) is None
    assert "settings=tuned has no conf/hparams/tuned/custom-kgcn.yaml" in str(
        missing_settings(choices | {"dataset": "custom"})
    )
    assert {"settings": DEFAULT_SETTINGS} in OmegaConf.load(CONF / "train.yaml").defaults


def test_configuration_travels_with_the_package():
    assert conf_dir() in (CONF, Path(kgrec.__file__).parent / "conf")


@pytest.mark.parametrize("ks", [[], [0], [1, 1], [2.0], ["20"], 20, "20", None])
def test_bad_cutoffs_are_named(ks):
    with pytest.raises(ConfigError, match=r"ranking\.ks: found .*, expected distinct integers"):
        check_ks(ks)


def test_ranking_metrics_are_those_of_the_evaluation():
    assert tuple(METRICS) == RANKING_METRICS


@pytest.mark.parametrize("value", ["null", "1", "1.5", "true", "{a:1}"])
def test_a_group_that_is_set_to_no_name_is_refused(value):
    with pytest.raises(ConfigError, match=rf"model: found {value}, expected one of .*kgcn"):
        check_words(["dataset=music", f"model={value}"])


def test_a_word_without_a_key_is_refused():
    with pytest.raises(ConfigError, match="=1: found no key, expected key=value"):
        check_words(["=1"])


def test_a_number_of_too_many_digits_is_refused():
    with pytest.raises(ConfigError, match=r"threads=999.*4300 digits.*expected key=value"):
        check_words([f"threads={'9' * 5000}"])


def test_other_words_are_left_to_hydra():
    check_words(["model=kgcn", "model=kgcn,svd", "~negatives", "model.K=null", "-m", "--cfg", "job",
                 "a=\x00", "../x=1", "/etc=1", f"{'x' * 5000}=1", "model=[a]"])  # fmt: skip
