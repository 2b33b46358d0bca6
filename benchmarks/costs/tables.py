"""Results of ``benchmarks/sharded.py`` as tables."""

from __future__ import annotations

from typing import Any

from common import markdown

from costs.model import Sizes

HBM = 80e9  # bytes of a GPU's memory


def constants_table(costs: dict[str, Any]) -> str:
    """The kernels' seconds per unit at the middle width, in ns; and the exchanges."""
    rows = []
    for name, points in costs["1"]["kernels"].items():
        widths = sorted({p[1] for p in points})
        d, table = widths[len(widths) // 2], max(p[2] for p in points)
        cells = []
        for W in ("1", "2"):
            chosen = [p for p in costs[W]["kernels"][name] if p[1] == d and p[2] == table]
            cells.append(" / ".join(f"{1e9 * p[3]:.0f}" for p in chosen))
        units = " / ".join(f"{p[0]:,}" for p in points if p[1] == d and p[2] == table)
        rows.append([name, f"{d or ''}", units, *cells])
    header = ["kernel", "d", "units", "ns per unit, 1 process", "2 processes"]
    lines = [[name, f"{b:,.0f}", f"{1e6 * t:,.0f}", f"{b / t / 1e9:.2f}"]
             for name, points in costs["2"]["exchanges"].items() for b, t in points]  # fmt: skip
    exchanges = markdown(["exchange of 2 processes", "bytes sent", "µs", "GB/s"], lines)
    fixed = " and ".join(f"{1e3 * costs[W]['fixed']:.1f} ms in {W}" for W in ("1", "2"))
    return f"{markdown(header, rows)}\n\nA step with one row: {fixed}.\n\n{exchanges}"


def steps_table(points: list[dict[str, Any]]) -> str:
    """Predicted and measured steps."""
    rows = []
    for p in points:
        s, m, parts = Sizes(**p["sizes"]), p["measured"], p["predicted"]
        predicted, exchange = sum(parts.values()), parts.get("exchange", 0.0)
        busy = predicted - exchange - parts.get("average", 0.0)
        rows.append(
            [
                str(s.ranks),
                f"{s.entities:,}",
                str(s.d),
                f"{s.batch:,}",
                f"{1e3 * busy:.1f}",
                f"{1e3 * m['cpu']:.1f}",
                f"{busy / m['cpu']:.2f}",
                f"{1e3 * predicted:.1f}",
                f"{1e3 * m['seconds']:.1f}",
                f"{predicted / m['seconds']:.2f}",
                f"{1e3 * exchange:.1f}",
                f"{1e3 * m['exchange']:.1f}",
                f"{p['expected_sent'] / m['sent']:.3f}" if m["sent"] else "",
            ]
        )
    header = [
        "W", "E", "d", "B", "CPU ms, predicted", "measured", "ratio", "ms, predicted", "measured",
        "ratio", "exchange ms, predicted", "measured", "bytes, predicted / measured",
    ]  # fmt: skip
    return markdown(header, rows)


def simulated_table(lines: list[dict[str, Any]]) -> str:
    """Expected and drawn bytes, and the busiest device."""
    rows = [
        [
            str(x["ranks"]), f"{x['exponent']:g}", f"{x['distinct']:,.0f}",
            f"{x['expected_distinct'] / x['distinct']:.3f}", f"{x['sent'] / 1e6:.2f}",
            f"{x['expected'] / x['sent']:.3f}", f"{x['most']:.3f}", f"{x['most_in_ranges']:.2f}",
        ]
        for x in lines
    ]  # fmt: skip
    header = [
        "W", "Zipf's s", "distinct entities", "expected / drawn", "MB sent", "expected / drawn",
        "busiest device / mean", "with ranges of rows",
    ]  # fmt: skip
    return markdown(header, rows)


def scaled_table(lines: list[dict[str, Any]]) -> str:
    """Memory and time on GPUs."""
    rows = []
    for x in lines:
        parts, slow = x["infiniband"], x["ethernet"]
        whole, total = sum(parts.values()), sum(x["memory"].values())
        most = max(parts, key=parts.__getitem__)
        fits = "yes" if total < HBM else "no"
        rows.append(
            [
                f"{x['entities']:.0e}".replace("e+0", "e"),
                str(x["ranks"]),
                *(
                    f"{x['memory'][k] / 1e9:.1f}"
                    for k in ("parameters", "moments", "graph", "step")
                ),
                f"{total / 1e9:.1f}",
                fits,
                f"{x['sent'] / 1e6:,.0f}",
                f"{1e3 * whole:.0f}" if fits == "yes" else "",
                f"{most}, {parts[most] / whole:.0%}" if fits == "yes" else "",
                f"{1e3 * sum(slow.values()):.0f}" if fits == "yes" and x["ranks"] > 8 else "",
            ]
        )
    header = [
        "entities", "devices", "parameters, GB", "moments", "graph", "step", "in all",
        "fits 80 GB", "MB sent a step", "ms a step", "longest part", "ms with 100 Gbit/s",
    ]  # fmt: skip
    return markdown(header, rows)


def runs_table(lines: list[dict[str, Any]]) -> str:
    """Runs of train.py."""
    rows = []
    for x in lines:
        m = x["metrics"]
        auc, epoch = m.get("test/auc"), m.get("train/seconds_per_epoch")
        share, sent_mb = m.get("train/exchange_share"), m.get("train/exchange_mb_per_step")
        rows.append(
            [
                x["name"],
                " and ".join(f"{p:.2f}" for p in x["peaks"]),
                x["error"] if auc is None else f"{auc:.7f}",
                "" if epoch is None else f"{epoch:.1f}",
                "" if share is None else f"{share:.0%}",
                "" if sent_mb is None else f"{sent_mb:.1f}",
                f"{x['load']:.1f}",
            ]
        )
    header = [
        "", "peak private memory of each process, GB", "test AUC", "s an epoch",
        "share in exchange", "MB sent a step", "load before",
    ]  # fmt: skip
    return markdown(header, rows)
