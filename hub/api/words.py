"""Text that people write for other people: of a bounded length, and such as every database can hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["NO_NUL", "Words"]

NO_NUL = r"^[^\x00]*$"
Words = Annotated[str, Field(max_length=500, pattern=NO_NUL)]
