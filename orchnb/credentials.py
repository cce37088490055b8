"""Which credentials may be sent to the address that the settings name.

A file in the working folder may belong to a repository of somebody else. It cannot have the person's
credentials sent to an address of its choice. It may name an address of Prefect Cloud, and contain its
own credentials.
"""

from __future__ import annotations

from typing import Any

from orchnb.server_type import ServerType, server_type_of_url
from orchnb.setting_sources import WORKING_FOLDER
from orchnb.settings import Settings

_UNSET: dict[str, Any] = {"api_key": None, "api_auth_string": None, "client_custom_headers": {}}


def withheld(settings: Settings) -> dict[str, str]:
    """Return the credentials that are not sent to the ``api_url`` of the settings, each with the reason.

    The result is usually empty. Its keys are fields of `Settings`.
    """
    if not _is_from_folder(settings, "api_url") or _is_prefect_cloud(settings):
        return {}
    address = settings.source("api_url")
    return {
        name: f"{settings.source(name)} is not sent, as the address comes from {address}, a file in the "
        "working folder. To send it, name the address yourself, in PREFECT_API_URL or with "
        "%orch_server_type server URL."
        for name in _UNSET
        if getattr(settings, name) and not _is_from_folder(settings, name)
    }


def without_withheld(settings: Settings) -> Settings:
    """Return the settings without the credentials that are not sent to their ``api_url``."""
    unset = {name: _UNSET[name] for name in withheld(settings)}
    return settings.model_copy(update=unset) if unset else settings


def _is_from_folder(settings: Settings, name: str) -> bool:
    place = settings.source(name).place
    # The folder may say which file holds the profiles.
    by_profile = place.startswith("profile ") and _is_from_folder(settings, "profiles_path")
    return place in WORKING_FOLDER or by_profile


def _is_prefect_cloud(settings: Settings) -> bool:
    cloud = settings.cloud_api_url
    if _is_from_folder(
        settings, "cloud_api_url"
    ):  # it is not for the folder to say what the cloud is
        cloud = str(Settings.model_fields["cloud_api_url"].default)
    return server_type_of_url(settings.api_url or "", cloud_api_url=cloud) is ServerType.CLOUD
