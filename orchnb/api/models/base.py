"""The base of all models.

Fields that the API documents are typed; all others are kept as received, so that a newer server breaks
nothing. Times are aware datetimes; a time without a zone is taken as UTC.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, SupportsIndex, TypeVar, overload

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticUseDefault, core_schema

if TYPE_CHECKING:
    from pandas import DataFrame


def aware(moment: datetime) -> datetime:
    """Return the datetime with a time zone, UTC if it has none."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


Time = Annotated[datetime, AfterValidator(aware)]


def _default_for_null(value: object) -> object:
    if value is None:
        raise PydanticUseDefault
    return value


NullIsDefault: BeforeValidator = BeforeValidator(_default_for_null)
"""Servers leave out empty values or send null; both mean the same."""


class _NotWalked:
    """Check only that a value is a dict, not its contents: long lists have many that nobody looks at."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=handler(source), python_schema=core_schema.is_instance_schema(dict)
        )


LooseDict = Annotated[dict[str, Any], _NotWalked()]
"""A dict into which a server can put anything; the object from the response itself, not a copy."""


def _stop_at_first_error(schema: Any) -> None:
    """Make each list in a schema stop at its first invalid item: pydantic's error for one takes a
    thousand times as much memory as the item, and a response can have millions."""
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        for part in schema.values():
            _stop_at_first_error(part)
    elif isinstance(schema, list):
        for part in schema:
            _stop_at_first_error(part)


class Model(BaseModel):
    """The base of all models; keeps unknown fields as attributes."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        schema = handler(source)
        _stop_at_first_error(schema)
        return schema


M = TypeVar("M", bound=Model)


class ModelList(list[M]):
    """A list of models of one kind; a notebook shows it as a table.

    ``ui_url`` is the URL of the server's web UI, None if it has none; ``cut`` is whether the server
    returned as many as were requested, so that there can be more.
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
        """Return one object, or, for a slice, a list of the same type."""
        if isinstance(index, slice):
            return ModelList(super().__getitem__(index), model=self.model, ui_url=self.ui_url)
        return super().__getitem__(index)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each object as a dict of its fields, including those unknown to orchnb."""
        return [item.model_dump() for item in self]

    def to_pandas(self) -> DataFrame:
        """Return a pandas ``DataFrame`` with a row for each object and a column for each field.

        Raises:
            ImportError: pandas is not installed; orchnb does not depend on it.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas() needs pandas: pip install pandas") from None
        columns = None if self or self.model is None else list(self.model.model_fields)
        frame: DataFrame = pandas.DataFrame(self.to_dicts(), columns=columns)
        return frame
