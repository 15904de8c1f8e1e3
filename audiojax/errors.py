"""Errors that are shown as one sentence."""

from __future__ import annotations


class InputError(Exception):
    """An error that the user can fix. Its message is one sentence with the file or key, the value and the fix."""


def one_line(error: object, length: int = 150) -> str:
    """Returns the message of an error on one line, of at most `length` characters, for use within a sentence."""
    return " ".join(str(error).split())[:length].rstrip(". ") or type(error).__name__
