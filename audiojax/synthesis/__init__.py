"""Synthetic voices, which are the default data."""
