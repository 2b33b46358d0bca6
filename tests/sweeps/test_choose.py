"""``kgrec choose``: steps within a budget, resuming, and the verdict."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from finished_runs import MakeRun
from kgrec_command import Kgrec, failed

from kgrec.commands import choose as command
from kgrec.errors import ConfigError
from kgrec.reports.results.choice import choice_verdict, ranked_models
from kgrec.runs.finished import Run
from kgrec.runs.folder import RunFolder
from kgrec.sweeps import choose, timed
from kgrec.sweeps.choose import ALWAYS, Choice, tuned_models
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.state import Job
from kgrec.sweeps.timed import Clock

QUALITY = {"popularity": 0.3, "ease": 1.0, "itemknn": 0.6, "kgcn": 2.5, "libfm": 0.9, "svd": 0.7}


class FakeClock(Clock):
    """A clock that a test moves."""

    now = 0.0

    @property
    def spent(self) -> float:
        return self._before + self.now


class Fakes:
    """Stands for ``kgrec train``: writes finished run folders and moves the clock."""

    def __init__(self, make_run: MakeRun) -> None:
        self.make_run, self.cost = make_run, {"default": 10.0}
        self.commands: list[list[str]] = []
        self.broken: set[str] = set()

    def seconds(self, model: str) -> float:
        return self.cost.get(model, self.cost["default"])

    def train(self, words, log_file: Path, clock: FakeClock) -> bool:
        if clock.left <= 0:
            return False
        self.commands.append(list(words))
        values = dict(word.split("=", 1) for word in words if "=" in word)
        model, seed = values["model"], int(values["seed"])
        log_file.write_text(f"error: {model} is broken\n")
        if model in self.broken:
            return False
        if "-m" in words:
            return self._search(words, values, model, seed, clock)
        return self._run(Path(values["hydra.run.dir"].strip("'")), model, seed, clock, {})

    def _search(self, words, values, model, seed, clock) -> bool:
        place = Path(values["hydra.sweep.dir"].strip("'"))
        total = int(values["hydra.sweeper.n_trials"])
        jobs = [
            Job.of([f"model={model}", f"model.d={n}"], ["model.d"]) for n in range(1, total + 1)
        ]
        SweepFolder.open(place, words, words, jobs, ["model.d"], "val/auc", total)
        for number, job in enumerate(jobs, 1):
            folder = place / job.name
            if not RunFolder(folder).finished and not self._run(
                folder, model, seed, clock, {"d": number}
            ):
                return False
        return True

    def _run(self, folder: Path, model, seed, clock, settings) -> bool:
        clock.now += min(clock.left, self.seconds(model))
        if clock.left <= 0:
            return False
        name = f"{model}-{seed}-{len(self.commands)}-{clock.now}"
        quality = QUALITY[model] + 0.1 * settings.get("d", 0)
        made = self.make_run(name, seed, quality, model=model, **settings)
        status = {"state": "finished", "seconds": self.seconds(model), "monitor": "val/auc"}
        (made / "status.json").write_text(json.dumps(status))
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.rename(folder)
        return True


@pytest.fixture
def fakes(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    fakes = Fakes(make_run)
    monkeypatch.setattr(choose, "train", fakes.train)
    monkeypatch.setattr(timed, "Clock", FakeClock)
    monkeypatch.setattr(choose, "Clock", FakeClock)
    monkeypatch.setattr(choose, "START", 0.0)
    return fakes


def choice(path: Path, seconds: float, models=("kgcn", "libfm"), trials=3, seeds=2) -> Choice:
    return Choice(path, ["dataset=music"], list(models), trials, list(range(1, seeds + 1)),
                  "val/auc", FakeClock(seconds))  # fmt: skip


def test_every_model_gets_the_same_trials_and_seeds(fakes, tmp_path):
    everything = choice(tmp_path / "choice", 10_000, trials=4)
    everything.run()
    assert everything.complete
    assert {model: everything.count(model) for model in everything.everyone} == {
        **dict.fromkeys(ALWAYS, 1), "kgcn": 4, "libfm": 4,
    }  # fmt: skip
    assert everything.shared_seeds() == [1, 2]
    top = everything.best("kgcn")
    assert top is not None
    assert top.settings == ["model.d=3"]
    final = [words for words in fakes.commands if "seed=2" in words and "model=kgcn" in words]
    assert len(final) == 1
    assert "model.d=3" in final[0]


def test_a_slow_model_does_not_cost_the_others_their_trials(fakes, tmp_path):
    fakes.cost["kgcn"] = 100.0
    some = choice(tmp_path / "choice", 560, trials=9)
    some.run()
    assert some.count("kgcn") == some.count("libfm") > 1
    assert not some.complete
    assert some.clock.spent <= 560
    assert some.shared_seeds() == [1, 2]


def test_a_round_begins_only_if_it_fits(fakes, tmp_path):
    some = choice(tmp_path / "choice", 65, trials=9)
    some.run()  # 5 runs of 10 s; a round of two trials does not fit
    assert some.count("kgcn") == some.count("libfm") == 1
    assert some.shared_seeds() == [1]
    assert some.clock.spent <= 65


def test_time_that_is_too_short_for_a_seed_goes_to_the_search(fakes, tmp_path):
    fakes.cost["ease"] = 200.0  # a seed takes 300 s with its margin, more than 40 % of the budget
    some = choice(tmp_path / "choice", 420, trials=9)
    some.run()
    assert some.count("kgcn") == some.count("libfm") == 9
    assert some.shared_seeds() == [1]
    assert not any("seed=2" in words for words in fakes.commands)


def test_the_same_command_resumes(fakes, tmp_path):
    first = choice(tmp_path / "choice", 45)
    first.run()
    assert [m for m in first.everyone if not first.count(m)] == ["libfm"]
    begun = len(fakes.commands)
    again = choice(tmp_path / "choice", 10_000)
    again.run()
    assert again.complete
    own = [words for words in fakes.commands[begun:] if "-m" not in words and "seed=1" in words]
    assert [words[1] for words in own] == ["model=libfm"]
    limits = {word for words in fakes.commands for word in words if "max_time" in word}
    assert len(limits) == 1  # a training of the resumed comparison has the same limit
    done = len(fakes.commands)
    choice(tmp_path / "choice", 10_000).run()
    assert len(fakes.commands) == done


def test_results_of_other_data_are_not_reported(fakes, tmp_path):
    shop = tmp_path / "it's a shop"
    shop.mkdir()
    (shop / "interactions.csv").write_text("user,item\n")

    def of(root: Path) -> Choice:
        return Choice(tmp_path / "choice", [f"dataset.root={root}"], ["kgcn"], 1, [1], "val/auc",
                      FakeClock(100))  # fmt: skip

    of(shop).run()
    recorded = (tmp_path / "choice" / "choose.json").read_text()
    with pytest.raises(ConfigError, match="found the results of other settings"):
        of(tmp_path / "another").run()
    of(shop).run()
    (shop / "interactions.csv").write_text("user,item\nu,i\n")
    with pytest.raises(ConfigError, match=r"found the results of other files in dataset\.root"):
        of(shop).run()
    assert (tmp_path / "choice" / "choose.json").read_text() == recorded


def test_a_model_that_fails_is_named_and_the_others_go_ahead(fakes, tmp_path):
    fakes.broken = {"libfm"}
    some = choice(tmp_path / "choice", 10_000)
    some.run()
    assert some.errors == {"libfm": "libfm is broken"}
    assert some.count("kgcn") == 3
    assert some.shared_seeds() == [1, 2]


@pytest.fixture
def run_command(fakes, kgrec: Kgrec):
    def run(*words: str):
        return kgrec("choose", "dataset=music", "seed=1", "--models", "kgcn", "libfm", *words)

    return run


def text(output) -> str:
    return " ".join(output.out.split())


def test_the_command_ends_with_a_verdict(run_command):
    output = run_command("--minutes", "100", "--trials", "3", "--seeds", "2")
    assert output.code == 0, output.err
    words = text(output)
    assert "Use kgcn: it is the best of 5 models on validation" in words
    assert "mean of 2 seeds" in words
    assert "Against popularity, the same items for everyone: kgcn (" in words
    assert "Each of kgcn, libfm had 3 trials of at most 3." in words
    assert "Its setting: model.d=2." in words
    assert "kgrec refit logs/choose/music-" in words
    assert "Not tried" not in words


def test_a_tiny_budget_ends_honestly(run_command):
    words = text(run_command("--minutes", "0.05"))
    assert "No verdict: no model has finished within 0.05 minutes." in words
    assert "Not tried for lack of time: popularity, ease, itemknn, kgcn, libfm." in words
    words = text(run_command("--minutes", "0.3"))
    assert "No verdict: only popularity has finished" in words
    assert "Not tried for lack of time: ease, itemknn, kgcn, libfm." in words
    words = text(run_command("--minutes", "0.7"))
    assert "Use ease: it is the best of 3 models" in words
    assert "Not tried for lack of time: kgcn, libfm." in words
    assert "One seed: the effect of the seed is unknown." in words
    assert "the same command with more --minutes resumes" in words


def test_when_popularity_fails_its_error_is_shown_at_once(run_command, fakes):
    fakes.broken = {*ALWAYS, "kgcn", "libfm"}
    output = run_command("--minutes", "100")
    assert output.code == 1
    assert "error: popularity is broken" in output.err
    assert len(fakes.commands) == 1  # no other model is tried


def test_a_run_of_a_small_catalogue_counts_with_its_own_cutoff(fakes, tmp_path):
    some = Choice(tmp_path / "choice", ["dataset=music"], ["kgcn"], 1, [1], "val/ndcg@10",
                  FakeClock(10_000))  # fmt: skip
    some.run()  # status.json of the fakes has val/auc as monitor
    trial = some.best("kgcn")
    assert trial is not None
    assert trial.value == trial.folder.metrics()["val/auc"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "--minutes: found 0"),
        (["--trials", "0"], "--trials: found 0"),
        (["--models", "kgnc"], "--models: found 'kgnc'"),
        (["model=kgcn"], "--models names the models"),
        (["hydra.run.dir=here"], "found a setting that kgrec choose sets itself"),
        (["quick"], "quick: found no setting"),
        (["epoch=3"], "epoch"),
        (["epochs=0"], "epochs: found 0"),
    ],
)
def test_what_cannot_be_compared(words, message, kgrec: Kgrec, tmp_path):
    failed(kgrec("choose", "dataset=synthetic", *words), message)
    assert not (tmp_path / "logs").exists()


def test_all_models_with_a_search_are_tuned_unless_named():
    assert "kgcn" in tuned_models([], 1)
    assert not set(ALWAYS) & set(tuned_models([], 1))
    assert tuned_models(["kgcn", "ease", "kgcn"], 1) == ["kgcn"]


def test_a_search_needs_optuna(monkeypatch):
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="found no optuna"):
        tuned_models([], 2)
    assert tuned_models(["svd"], 1) == ["svd"]


# ------------------------------------------------------------ verdict


def verdict(make_run: MakeRun, seeds=(1, 2, 3), **quality: float) -> str:
    runs = {
        model: [Run.read(make_run(f"{model}-{seed}", seed, value, model=model)) for seed in seeds]
        for model, value in quality.items()
    }
    return " ".join(choice_verdict(ranked_models(runs, "val/auc"), "val/auc"))


def test_a_clear_lead_and_one_within_noise(make_run):
    words = verdict(make_run, popularity=0.3, kgcn=3.0, libfm=0.5)
    assert "Use kgcn" in words
    assert "above libfm" in words
    assert words.count("beyond noise.") == 2
    assert "within noise" not in words


def test_a_lead_within_noise(make_run):
    words = verdict(make_run, popularity=0.1, kgcn=1.0, libfm=1.0)
    assert "within noise: libfm, the second on validation, may be as good." in words


def test_popularity_is_the_best(make_run):
    words = verdict(make_run, popularity=2.0, kgcn=0.5)
    assert "Use popularity" in words
    assert "by AUC no model has learned more than that" in words


def test_no_better_than_popularity(make_run):
    words = verdict(make_run, kgcn=1.0, popularity=1.0, seeds=(1,))
    assert "Do not expect more than popularity from it." in words
    assert "One seed" in words


# ------------------------------------------------------------ processes and time


def test_a_process_is_ended_when_the_budget_is_used_up(tmp_path, monkeypatch):
    script = tmp_path / "endless.py"
    script.write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    begun = []
    popen = subprocess.Popen

    def endless(command, **options):
        begun.append(popen([sys.executable, str(script)], **options))
        return begun[-1]

    monkeypatch.setattr(timed.subprocess, "Popen", endless)
    clock, begin = Clock(1.5), time.monotonic()
    assert not timed.train(["model=svd"], tmp_path / "log.txt", clock)
    assert time.monotonic() - begin < 10
    assert clock.left == 0
    assert begun[0].poll() is not None
    assert "$ kgrec train model=svd\nbegun" in (tmp_path / "log.txt").read_text()
    assert not timed.train(["model=svd"], tmp_path / "log.txt", clock)
    assert len(begun) == 1  # nothing begins without time


def test_a_terminated_choice_ends_its_training(kgrec: Kgrec, monkeypatch):
    begun = []
    popen = subprocess.Popen

    def endless(command, **options):
        begun.append(popen([sys.executable, "-c", "import time; time.sleep(600)"], **options))
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGTERM]).start()
        return begun[-1]

    monkeypatch.setattr(timed.subprocess, "Popen", endless)
    # Without a handler of the command, the process of this test would end.
    before = signal.signal(signal.SIGTERM, lambda *_: begun[0].kill())
    try:
        output = kgrec("choose", "dataset=synthetic", "--models", "svd", "--trials", "1")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert output.code == 128 + signal.SIGTERM
    assert len(begun) == 1
    assert begun[0].poll() is not None


def test_earlier_commands_count():
    clock = Clock(100, spent=60)
    assert 59 < clock.left + 20 < 61


@pytest.mark.slow
def test_a_real_choice(tmp_path, kgrec: Kgrec):
    words = ["dataset=synthetic", "dataset.num_users=60", "dataset.num_items=40",
             "dataset.positives_per_user=10", "epochs=2"]  # fmt: skip
    output = kgrec("choose", *words, "--models", "svd", "--minutes", "8", "--trials", "2",
                   "--seeds", "2")  # fmt: skip
    assert output.code == 0, output.err
    assert "best of 4 models on validation" in text(output)
    [best] = [line.split()[-1] for line in output.out.splitlines() if "kgrec refit" in line]
    assert RunFolder(tmp_path / best).finished
    assert command._relative(tmp_path / "logs") == Path("logs")
