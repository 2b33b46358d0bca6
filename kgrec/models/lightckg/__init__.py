"""LightCKG: linear propagation over the collaborative knowledge graph."""

from kgrec.models.lightckg.model import LightCKG

__all__ = ["LightCKG"]
