"""Runs one function behind HTTP: limits, health, logs and request ids around functions-framework."""

import pathlib


def entry_file() -> str:
    """The file that functions-framework loads for functions with the book's signature."""
    return str(pathlib.Path(__file__).with_name("entry.py"))
