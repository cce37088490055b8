"""The base of all models.

Fields that the API documents are typed; all others are kept as received, so that a newer server breaks
nothing. Times are aware datetimes. Lengths of time are timedeltas, and are written as seconds in JSON, as
the API does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, SupportsIndex, TypeVar, overload

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema, PydanticCustomError, PydanticUseDefault, core_schema

from orchnb.http.json_values import with_local_zone

if TYPE_CHECKING:
    from pandas import DataFrame


FROM_SERVER: Final = MappingProxyType({"from_server": True})
"""The context in which data from a server is validated: a time without a zone is in UTC there."""


def aware(moment: datetime, info: ValidationInfo) -> datetime:
    """Return the datetime with a time zone. If it has none, it is UTC in data from a server, and local
    time in a model that the user makes."""
    if moment.tzinfo is not None:
        return moment
    return (
        moment.replace(tzinfo=timezone.utc)
        if info.context is FROM_SERVER
        else with_local_zone(moment)
    )


Time = Annotated[datetime, AfterValidator(aware)]


def _default_for_null(value: object) -> object:
    if value is None:
        raise PydanticUseDefault
    return value


NullIsDefault: BeforeValidator = BeforeValidator(_default_for_null)
"""Servers leave out empty values or send null; both mean the same."""


class EnumText(str):
    """A text that has ``value`` and ``name`` like a member of an enumeration, and equals its text.

    Servers add members to their enumerations, so a value from a server can be any text.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._checked, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def _checked(cls, value: object) -> EnumText:
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "Input should be a valid string")
        return cls(value)

    @property
    def value(self) -> str:
        """The text."""
        return str(self)

    @property
    def name(self) -> str:
        """The text; the names of the API's enumerations are their values."""
        return str(self)


class _Lenient:
    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return _or_as_it_is(handler(source))


def _or_as_it_is(schema: CoreSchema) -> CoreSchema:
    return core_schema.union_schema([schema, core_schema.any_schema()], mode="left_to_right")


LENIENT = _Lenient()
"""For a nested value: one of another form than declared is kept as it is, and is not an error."""

Duration = Annotated[timedelta, LENIENT]
"""A length of time, which the API sends as seconds."""


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

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", ser_json_timedelta="float")

    named_by: ClassVar[tuple[str, ...]] = ()
    """The fields in the repr, which is one line; empty for all of them. ``str()`` has all fields."""

    def __repr__(self) -> str:
        fields = type(self).named_by
        if not fields:
            return super().__repr__()
        values = ((name, getattr(self, name, None)) for name in fields)
        words = ", ".join(f"{name}={_short(value)}" for name, value in values if value is not None)
        return f"{type(self).__name__}({words})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        schema = handler(source)
        _stop_at_first_error(schema)
        return schema


def _short(value: object) -> str:
    if isinstance(value, str):
        return repr(str(value)[:_LONGEST_IN_REPR] + ("…" if len(value) > _LONGEST_IN_REPR else ""))
    return repr(value)


_LONGEST_IN_REPR = 80


def _accept_any_field(schema: Any) -> None:
    """Make every field of a model's schema lenient. The model's own schema can be inside of those of its
    validators."""
    while schema["type"] != "model-fields":
        schema = schema["schema"]
    for field in schema["fields"].values():
        holder = field["schema"] if field["schema"]["type"] == "default" else field
        inner = holder["schema"]
        # pydantic can come here twice for one model.
        if inner["type"] != "union" or inner["choices"][-1]["type"] != "any":
            holder["schema"] = _or_as_it_is(inner)


class Part(Model):
    """The base of models of a part of an object. Every field may be missing, and a value of another form
    than declared is kept as it is: only the fields that a newer server has changed are affected."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        schema = super().__get_pydantic_core_schema__(source, handler)
        _accept_any_field(schema)
        return schema

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the fields that have a value."""
        for name, value in super().__repr_args__():
            if name not in type(self).model_fields or (
                value is not None and name in self.model_fields_set
            ):
                yield name, value


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
        self.cut: bool = cut
        self.limit_is_servers: bool = False
        """Whether the server's own limit applied, so that it is not known yet whether there are more."""

    def decide_cut(self, limit: int) -> None:
        """Set ``cut``, given the server's own limit."""
        self.cut = bool(self) and len(self) == limit
        self.limit_is_servers = False

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
