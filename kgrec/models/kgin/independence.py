"""Measures of how much vectors depend on each other; smaller is more independent.

Distance correlation: Székely, Rizzo, Bakirov: "Measuring and testing dependence by correlation of
distances", Annals of Statistics 2007. The n numbers of a vector are the sample.

Shapes: P vectors of n numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 0.2  # τ of the mutual information, as in KGIN's code
TINY = 1e-30  # least product of distance variances: that of vectors of equal numbers is 0
SMOOTH = 1e-8  # added under the root, whose gradient at 0 is infinite; as in KGIN's code


def distance_correlation(vectors: Tensor) -> Tensor:
    """Σ_{p<q} dCor of vectors (P, n).

    With a the distances |x_i - x_j| within a vector, less their means over rows and over columns,
    plus their mean, dCov²(p, q) is the mean of the products of a_p and a_q, and
    dCor²(p, q) = dCov²(p, q) / √(dCov²(p, p) dCov²(q, q)).
    """
    distances = (vectors[:, :, None] - vectors[:, None, :]).abs()  # (P, n, n)
    means = distances.mean(dim=2, keepdim=True)
    centred = (distances - means - means.mT + means.mean(dim=1, keepdim=True)).flatten(1)
    covariances = centred @ centred.T / centred.shape[1]  # (P, P)
    variances = covariances.diagonal()
    scale = (variances[:, None] * variances).clamp(min=TINY).sqrt()
    return _pairs((covariances / scale).clamp(min=0) + SMOOTH).sqrt().sum()


def mutual_information(vectors: Tensor) -> Tensor:
    """Σ_p -ln of the softmax over q of cosine(p, q)/τ at q = p, of vectors (P, n)."""
    directions = F.normalize(vectors)
    cosines = directions @ directions.T / TEMPERATURE
    each = torch.arange(len(vectors), device=vectors.device)
    return F.cross_entropy(cosines, each, reduction="sum")


def squared_cosines(vectors: Tensor) -> Tensor:
    """Σ_{p<q} cosine(p, q)² of vectors (P, n)."""
    directions = F.normalize(vectors)
    return _pairs(directions @ directions.T).square().sum()


def _pairs(matrix: Tensor) -> Tensor:
    """The numbers above the diagonal."""
    rows, columns = torch.triu_indices(len(matrix), len(matrix), 1, device=matrix.device)
    return matrix[rows, columns]


INDEPENDENCE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "distance": distance_correlation,
    "mutual_information": mutual_information,
    "cosine": squared_cosines,
}
