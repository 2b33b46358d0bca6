"""KGIN: intents of users as mixtures of relations."""

from kgrec.models.kgin.model import KGIN

__all__ = ["KGIN"]
