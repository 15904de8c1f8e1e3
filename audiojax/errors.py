"""Errors that are shown as one sentence."""

from __future__ import annotations


class InputError(Exception):
    """Something a person can put right. Its text is one sentence: the file or key, the value, the fix."""


def one_line(error: object, length: int = 150) -> str:
    """What an error says, fit for the middle of a sentence."""
    return " ".join(str(error).split())[:length].rstrip(". ") or type(error).__name__
