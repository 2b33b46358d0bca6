"""What ``python train.py`` answers before it imports anything heavy."""

import subprocess
import sys

import pytest
from conftest import ROOT

# Loads the command as train.py does, and says at the end whether torch was imported.
SCRIPT = (
    "import sys; sys.argv = ['train.py', *sys.argv[1:]]\n"
    "from kgrec.commands.train import main\n"
    "try:\n    main()\nfinally:\n    print('torch' in sys.modules, file=sys.stderr)"
)


def train(tmp_path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=musik"], "dataset: found 'musik', expected one of book, custom, movie"),
        (["dataset=musik"], "(did you mean music?)"),
        (["model=kgcnn"], "(did you mean kgcn?)"),
        (["settings=tunde"], "(did you mean tuned?)"),
        (["model.agregator=sum"], "model.agregator: found an unknown key, expected one of H, K"),
        (["modle=svd"], "(did you mean model?)"),
        (["epochs=many"], "epochs: found 'many', expected an integer >= 1"),
        (["monitor=val/acu"], "monitor: found 'val/acu', expected a validation metric"),
        (["--epochs", "3"], "--epochs: found an option, expected epochs=3"),
        (["--batch-size=3"], "--batch-size=3: found an option, expected batch_size=3"),
        (["--model.K"], "--model.K: found an option, expected model.K=…"),
    ],
)
def test_a_typo_is_answered_before_the_imports(tmp_path, words, message):
    ended = train(tmp_path, *words)
    assert ended.returncode == 1
    assert message in ended.stdout + ended.stderr
    assert ended.stderr.rstrip().endswith("False")
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_fits_a_terminal_and_is_quick(tmp_path, word):
    ended = train(tmp_path, word)
    assert ended.returncode == 0
    assert ended.stderr.rstrip() == "False"
    assert max(map(len, ended.stdout.splitlines())) <= 80
    for text in ("dataset= book", "lightgcn", "python train.py -m model.H=1,2,3,4", "--cfg job"):
        assert text in ended.stdout
