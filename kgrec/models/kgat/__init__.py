"""KGAT: attention over the collaborative knowledge graph."""

from kgrec.models.kgat.model import KGAT

__all__ = ["KGAT"]
