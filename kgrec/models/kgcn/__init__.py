"""KGCN: knowledge graph convolutional networks (Wang et al., WWW 2019)."""

from kgrec.models.kgcn.model import KGCN

__all__ = ["KGCN"]
