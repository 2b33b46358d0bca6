"""Published values of the KGCN paper (Wang et al., WWW 2019, arXiv:1904.12575).

Figure 2 (Recall@K) is a drawing; the paper prints no numbers for it.
"""

from __future__ import annotations

from typing import Any

DATA_SETS = ("movie", "book", "music")

# Table 2: model, or aggregator of KGCN, to data set to (AUC, F1).
TABLE_2: dict[str, dict[str, tuple[float, float]]] = {
    "svd": {"movie": (0.963, 0.919), "book": (0.672, 0.635), "music": (0.769, 0.696)},
    "libfm": {"movie": (0.959, 0.906), "book": (0.691, 0.618), "music": (0.778, 0.710)},
    "libfm_transe": {"movie": (0.966, 0.917), "book": (0.698, 0.622), "music": (0.777, 0.709)},
    "per": {"movie": (0.832, 0.788), "book": (0.617, 0.562), "music": (0.633, 0.596)},
    "cke": {"movie": (0.924, 0.871), "book": (0.677, 0.611), "music": (0.744, 0.673)},
    "ripplenet": {"movie": (0.968, 0.912), "book": (0.715, 0.650), "music": (0.780, 0.702)},
    "sum": {"movie": (0.978, 0.932), "book": (0.738, 0.688), "music": (0.794, 0.719)},
    "concat": {"movie": (0.977, 0.931), "book": (0.734, 0.681), "music": (0.796, 0.721)},
    "neighbor": {"movie": (0.977, 0.932), "book": (0.728, 0.679), "music": (0.781, 0.699)},
    "avg": {"movie": (0.975, 0.929), "book": (0.722, 0.682), "music": (0.774, 0.692)},
}

# Tables 3 to 5: AUC of KGCN-sum by one setting; all other settings as in Table 1.
SWEEPS: dict[str, dict[str, dict[int, float]]] = {
    "model.K": {
        "movie": {2: 0.978, 4: 0.979, 8: 0.978, 16: 0.978, 32: 0.977, 64: 0.978},
        "book": {2: 0.680, 4: 0.727, 8: 0.736, 16: 0.725, 32: 0.711, 64: 0.723},
        "music": {2: 0.791, 4: 0.794, 8: 0.795, 16: 0.793, 32: 0.794, 64: 0.792},
    },
    "model.H": {
        "movie": {1: 0.972, 2: 0.976, 3: 0.974, 4: 0.514},
        "book": {1: 0.738, 2: 0.731, 3: 0.684, 4: 0.547},
        "music": {1: 0.794, 2: 0.723, 3: 0.545, 4: 0.534},
    },
    "model.d": {
        "movie": {4: 0.968, 8: 0.970, 16: 0.975, 32: 0.977, 64: 0.973, 128: 0.972},
        "book": {4: 0.709, 8: 0.732, 16: 0.733, 32: 0.735, 64: 0.739, 128: 0.736},
        "music": {4: 0.789, 8: 0.793, 16: 0.797, 32: 0.793, 64: 0.790, 128: 0.789},
    },
}

TABLES = {"model.K": "Table 3", "model.H": "Table 4", "model.d": "Table 5"}
SYMBOLS: dict[str, Any] = {"model.K": "K", "model.H": "H", "model.d": "d"}
