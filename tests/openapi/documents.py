"""OpenAPI documents for tests, and calls of what they describe."""

from __future__ import annotations

import json
from typing import Any

import httpx

from orchnb.openapi.parser import DescribedOperation, read_description
from orchnb.openapi.requests import call_of

HTTP = httpx.Client(base_url="http://server/api", verify=False)
"""Builds requests, and sends none."""


def document(paths: Any = None, **more: Any) -> bytes:
    return json.dumps({"openapi": "3.1.0", "info": {}, "paths": paths or {}, **more}).encode()


def only(paths: Any, **more: Any) -> DescribedOperation:
    (operation,) = read_description(document(paths, **more)).operations
    return operation


def get(**operation: Any) -> dict[str, Any]:
    return {"/things": {"get": operation}}


def body(
    schema: Any, media_type: str = "application/json", required: bool = True
) -> dict[str, Any]:
    content = {media_type: {"schema": schema}}
    return {"/things": {"post": {"requestBody": {"content": content, "required": required}}}}


def call(paths: Any, *args: Any, **kwargs: Any) -> Any:
    operation = only(paths)
    return call_of(operation, operation.path, args, kwargs)
