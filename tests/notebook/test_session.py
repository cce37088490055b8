"""The choice of server as plain calls, without a shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchnb import ServerType, determine_server_type, get_settings
from orchnb.errors import InvalidSetting
from orchnb.notebook.session import InvalidChoice, Session

URL = "http://127.0.0.1:9/api"
CLOUD = "https://api.prefect.cloud/api/accounts/a/workspaces/w"


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    yield session
    session.close()
    session.forget_choice()


@pytest.mark.parametrize(
    ("arguments", "kind", "url", "source"),
    [
        ({"kind": "server", "url": URL}, ServerType.SERVER, URL, "%orch_server_type"),
        ({"kind": "cloud", "url": CLOUD}, ServerType.CLOUD, CLOUD, "%orch_server_type"),
        ({"profile": "local"}, ServerType.SERVER, "http://127.0.0.1:4200/api", "profile 'local'"),
        ({"kind": "ephemeral"}, ServerType.EPHEMERAL, None, "%orch_server_type"),
        (
            {"kind": "ephemeral", "fresh": True},
            ServerType.EPHEMERAL,
            None,
            "%orch_server_type --fresh",
        ),
    ],
)
def test_each_switch_is_the_choice_until_it_is_forgotten(
    session: Session, arguments: dict[str, Any], kind: ServerType, url: str | None, source: str
) -> None:
    session.switch(**arguments)
    settings = get_settings()
    assert (determine_server_type(), settings.api_url) == (kind, url)
    assert str(settings.source("api_url")).startswith(source)
    session.forget_choice()
    assert str(get_settings().source("api_url")) == "default"


def test_a_fresh_folder_is_removed_when_the_session_closes(session: Session) -> None:
    session.switch("ephemeral", fresh=True)
    folder = get_settings().ephemeral_home
    assert folder is not None
    assert Path(folder).is_dir()
    session.close()
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"kind": "nonsense"}, InvalidChoice),
        ({"kind": "server"}, InvalidChoice),
        ({"kind": "server", "url": "localhost:4200"}, InvalidSetting),
        ({"kind": "ephemeral", "url": URL, "fresh": True}, InvalidChoice),
        ({"kind": "auto", "fresh": True}, InvalidChoice),
        ({"profile": "local", "fresh": True}, InvalidChoice),
        ({"profile": "nobody"}, InvalidSetting),
    ],
)
def test_a_choice_that_is_refused_changes_nothing(
    session: Session, arguments: dict[str, Any], error: type[ValueError]
) -> None:
    session.switch("server", URL)
    with pytest.raises(error):
        session.switch(**arguments)
    assert get_settings().api_url == URL


def test_only_the_in_kernel_server_is_opened_on_a_port(session: Session) -> None:
    session.switch("server", URL)
    with pytest.raises(InvalidChoice, match="%orch_server_type ephemeral first"):
        session.serve()
    assert not session.stop_serving()
