"""Synthetic data with planted truth: small sets, and twins of the public sets."""
