"""Whether KGCN's reasons hold: the drop of scores without the named neighbour.

``python benchmarks/fidelity.py RUN ...`` takes finished runs of KGCN. For the best items of some
users it deletes one neighbour of the item from the graph, computes attention anew, and scores
again: the neighbour of the largest share (named), that of the largest attention weight (heaviest),
or another one drawn at random.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from common import machine, markdown, write

import kgrec
from kgrec.data.draws import generator
from kgrec.evaluation.topk import top_k
from kgrec.inference.fidelity import fidelity
from kgrec.models.kgcn import KGCN

HEADER = (
    "run", "pairs", "share of the named", "drop, named", "drop, heaviest", "drop, random",
    "named > random", "all neighbours",
)  # fmt: skip


def main() -> None:
    """Measures the runs and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--users", type=int, default=300)
    parser.add_argument("-k", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, results = [], []
    for run in arguments.runs:
        rec = kgrec.load(run)
        if not isinstance(rec.model, KGCN):
            parser.error(f"found a run of {rec.name}, expected KGCN")
        trained = torch.nonzero(rec.data.train.user_degrees()).squeeze(1)
        drawn = torch.randperm(len(trained), generator=generator(0, "users"))[: arguments.users]
        users = trained[drawn]
        with torch.no_grad():
            encoded = rec.ranker.encoded
            _, items = top_k(
                lambda part: rec.model.score_all(part, encoded),  # noqa: B023
                users, arguments.k, len(rec.item_ids), rec.data.train,
            )  # fmt: skip
        measured = fidelity(rec.model, users, items)
        name = f"{rec.data.about['dataset']}, {rec.model.arguments['aggregator']}, H={rec.model.H}"
        numbers = measured.share, measured.named, measured.heaviest, measured.random
        rows.append([
            name, f"{measured.pairs:,}", *(f"{number:.3f}" for number in numbers),
            f"{100 * measured.better:.0f} %", f"{measured.together:.3f}",
        ])  # fmt: skip
        results.append({"run": name, **measured._asdict()})
    table = markdown(HEADER, rows)
    print(table)
    write(arguments.out, "fidelity", {"machine": machine(), "runs": results}, table)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
