"""The README's commands must compose, and what it names must be there."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, Train, composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_class
from omegaconf import OmegaConf

from kgrec import cli
from kgrec.config.checks import check
from kgrec.runs.checkpoints import load_recommender

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))]
NAMES = "|".join(cli.COMMANDS)
COMMANDS = sorted(
    {
        line.split("#")[0].split("&&")[-1].strip()
        for page in PAGES
        for line in re.findall(r"^.*?(python train\.py[^`\n]*)", page, flags=re.MULTILINE)
    }
)


def test_the_two_commands_of_a_fresh_machine():
    assert "pip install -e . && python train.py\n" in README
    assert "pip install -e '.[dev]' && pytest\n" in README


def test_the_commands_that_were_promised_are_there():
    for command in (
        "python train.py dataset=music",
        "python train.py dataset=book model.aggregator=sum",
        "python train.py -m model.H=1,2,3,4",
        "python train.py dataset=book model.K=4 model.H=2 model.d=32 seed=1",
        "python train.py dataset=custom dataset.root=my/folder model=lightckg",
    ):
        assert command in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command):
    words = [word for word in shlex.split(command)[2:] if word != "-m"]
    if importlib.util.find_spec("ray") is None:  # its launcher needs an environment of its own
        words = [word for word in words if not re.match(r"\+?hydra[./]launcher[.=]ray", word)]
    # Of a sweep, the first job; of a search, what all trials have in common.
    parsed = OverridesParser.create().parse_overrides(words)
    searched = [override.is_interval_sweep() for override in parsed]
    overrides = [
        f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
        if override.is_sweep_override()
        else override.input_line
        for override, interval in zip(parsed, searched, strict=True)
        if not interval
    ]
    check(composed(*overrides, "paths.run=x"))


@pytest.mark.parametrize(
    "command",
    sorted({
        line.split("#")[0].strip()
        for page in PAGES
        for line in re.findall(r"(?m)^(kgrec (?:" + NAMES + r") [^`\n]*)", page)
    }),
)  # fmt: skip
def test_every_kgrec_command_is_one(command):
    _, rest = cli.parser().parse_known_args(shlex.split(command)[1:])
    assert rest == []


METHODS = {"exact": "exact", "propagation": "by propagation", "steps": "by a few steps"}


def test_the_table_of_what_models_can_do():
    table = README.split("| `model=` | new users")[1].split("\n\n")[0]
    rows = [line.split(" | ") for line in table.splitlines()[2:]]
    named = {name: row[1:3] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    for name, (users, items) in named.items():
        target = OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml").model._target_
        kind = get_class(target.removesuffix(".from_dataset"))
        assert users == METHODS[kind.fold_in_method], name
        assert items == ("yes" if kind.adds_items else "no"), name
    models = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    controls = {"all_positive", "popularity_balance", "popularity_prior", "unseen_item"}
    assert named.keys() == models - controls


def test_the_model_of_ones_own_runs(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.search(r"```python\n(class ItemBias.*?)```", README, flags=re.DOTALL)
    conf = re.search(r"```yaml\n(.*?ItemBias.*?)```", README, flags=re.DOTALL)
    assert code
    assert conf
    imports = (
        "from torch import nn\n"
        "from torch.nn.functional import binary_cross_entropy_with_logits\n"
        "from kgrec.models.recommender import Recommender\n"
    )
    (tmp_path / "my_models.py").write_text(imports + code[1])
    (tmp_path / "my" / "conf" / "model").mkdir(parents=True)
    (tmp_path / "my" / "conf" / "model" / "item_bias.yaml").write_text(conf[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    run = train(f"--config-dir={tmp_path / 'my' / 'conf'}", "model=item_bias")
    assert run.code == 0, run.err
    assert run.metrics["train/epochs"] == 2
    model = load_recommender(run.folder / "checkpoints" / "best.ckpt", trust=["my_models"])
    assert type(model).__name__ == "ItemBias"
    assert model.bias.weight.any()


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))],
)
def test_links_and_paths_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_troubleshooting_quotes_messages_that_exist():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    symptoms = "\n".join(re.findall(r"(?m)^\| (.*?) \| ", page))
    quoted = {text.strip(" …") for text in re.findall(r"`([^`]*found[^`]*|scores[^`]*)`", symptoms)}
    assert len(quoted) > 5
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "kgrec").rglob("*.py"))
    code = re.sub(r'"\s+f?"', "", code)  # a message over several lines
    assert [text for text in quoted if text not in code] == []
