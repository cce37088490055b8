"""What all models have in common.

Fields that the API documents are typed, all others are kept as they came, so that a newer server
breaks nothing. Times are aware datetimes; one that names no zone is taken to be UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, SupportsIndex, TypeVar, overload

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticUseDefault, core_schema

if TYPE_CHECKING:
    from pandas import DataFrame


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


class _NotWalked:
    """A dict is checked to be one, and no more: long lists have many that nobody looks at."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=handler(source), python_schema=core_schema.is_instance_schema(dict)
        )


LooseDict = Annotated[dict[str, Any], _NotWalked()]
"""What a server may put anything into; the same dict that was in its answer, not a copy."""


def _stop_at_first_error(schema: Any) -> None:
    """Have each list in a schema end at the first item that does not fit: pydantic's description of one
    takes a thousand times as much memory as the item, and an answer may have millions."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        for part in schema.values():
            _stop_at_first_error(part)
    elif isinstance(schema, list):
        for part in schema:
            _stop_at_first_error(part)


class Model(BaseModel):
    """The base of all: keeps fields that it does not know, as attributes."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        schema = handler(source)
        _stop_at_first_error(schema)
        return schema


M = TypeVar("M", bound=Model)


class ModelList(list[M]):
    """A list of models of one kind; a list in every way, and a table where a notebook shows it.

    ``ui_url`` is where the server's own web pages are, None if it has none; ``cut`` whether the server
    gave as many as it was asked for, so that there may be more.
    """

    def __init__(
        self,
        items: Iterable[M] = (),
        *,
        model: type[M] | None = None,
        ui_url: str | None = None,
        cut: bool = False,
    ) -> None:
        super().__init__(items)
        self.model = model
        self.ui_url = ui_url
        self.cut = cut

    @overload
    def __getitem__(self, index: SupportsIndex) -> M: ...
    @overload
    def __getitem__(self, index: slice) -> ModelList[M]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> M | ModelList[M]:
        """An object, or, of a slice, a list that is a table as well."""
        if isinstance(index, slice):
            return ModelList(super().__getitem__(index), model=self.model, ui_url=self.ui_url)
        return super().__getitem__(index)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Each object as a dict of its fields, also those that orchnb does not know."""
        return [item.model_dump() for item in self]

    def to_pandas(self) -> DataFrame:
        """A pandas ``DataFrame`` with a row for each object and a column for each field.

        Raises:
            ImportError: pandas is not installed; orchnb does without.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas() needs pandas: pip install pandas") from None
        columns = None if self or self.model is None else list(self.model.model_fields)
        frame: DataFrame = pandas.DataFrame(self.to_dicts(), columns=columns)
        return frame
