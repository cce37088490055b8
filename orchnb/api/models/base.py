"""What all models have in common.

Fields that the API documents are typed, all others are kept as they came, so that a newer server
breaks nothing. Times are aware datetimes; one that names no zone is taken to be UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticUseDefault


def aware(moment: datetime) -> datetime:
    """The moment with a time zone, which is UTC if it names none."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


Time = Annotated[datetime, AfterValidator(aware)]


def _default_for_null(value: object) -> object:
    if value is None:
        raise PydanticUseDefault
    return value


NullIsDefault = BeforeValidator(_default_for_null)
"""Servers leave out what is empty, or send a null; it is the same."""


class Model(BaseModel):
    """The base of all: keeps fields that it does not know, as attributes."""

    model_config = ConfigDict(extra="allow")


M = TypeVar("M", bound=Model)


class ModelList(list[M]):
    """A list of models of one kind; a list in every way, and a table where a notebook shows it."""

    def __init__(self, items: Iterable[M] = (), *, model: type[M] | None = None) -> None:
        super().__init__(items)
        self.model = model
