"""Synthetic voices: the embedded default data."""
