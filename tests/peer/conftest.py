"""One real server for Prefect's client and orchnb's."""

from __future__ import annotations

from tests.api.conftest import server_url as server_url
