"""Expressions that SQLite and PostgreSQL would compute differently, said so that both give the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Double, String
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["ascii_lower", "plain_number"]

_NUMBER_CHARS = 16


class _AsciiLower(FunctionElement[str]):
    inherit_cache = True
    name = "ascii_lower"
    type = String()


class _PlainNumber(FunctionElement[float]):
    inherit_cache = True
    name = "plain_number"
    type = Double()


def ascii_lower(column: ColumnElement[str]) -> ColumnElement[str]:
    """The text with A-Z in lower case, and every other character as it is."""
    return _AsciiLower(column)


def plain_number(column: ColumnElement[str]) -> ColumnElement[float]:
    """Text such as `3`, `-0.5` or `1024` (at most 16 characters, no exponent) as a number; NULL for other text."""
    return _PlainNumber(column)


@compiles(_AsciiLower)
def _lower(element: _AsciiLower, compiler: SQLCompiler, **options: Any) -> str:
    return f"lower({compiler.process(element.clauses, **options)})"  # of SQLite: A-Z only


@compiles(_AsciiLower, "postgresql")
def _lower_on_postgresql(element: _AsciiLower, compiler: SQLCompiler, **options: Any) -> str:
    return f'lower(({compiler.process(element.clauses, **options)}) COLLATE "C")'


@compiles(_PlainNumber)
def _number(element: _PlainNumber, compiler: SQLCompiler, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    shaped = f"{text} NOT GLOB '*[^0-9.-]*' AND json_valid({text})"  # JSON of these characters is a number
    return f"CASE WHEN length({text}) <= {_NUMBER_CHARS} AND {shaped} THEN CAST({text} AS REAL) END"


@compiles(_PlainNumber, "postgresql")
def _number_on_postgresql(element: _PlainNumber, compiler: SQLCompiler, **options: Any) -> str:
    text = compiler.process(element.clauses, **options)
    shaped = rf"{text} ~ '^-?(0|[1-9][0-9]*)(\.[0-9]+)?$'"
    return f"CASE WHEN length({text}) <= {_NUMBER_CHARS} AND {shaped} THEN CAST({text} AS DOUBLE PRECISION) END"
