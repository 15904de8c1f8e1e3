"""Scores, plots and reports of trained clip classifiers."""
