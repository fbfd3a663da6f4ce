"""(text) → value: what a single setting may be, and what it obviously means. Pure.

A check that fails raises ValueError, which says what the value must be and never tells the value.
"""

from __future__ import annotations

import re
import string
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from sync.ids import guid_of

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(url: str) -> bool:
    """Whether *url* is plain http to this machine: the one place where no encryption and no identity are asked for."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in _LOOPBACK


_INVISIBLE = "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u00a0"
"""Characters that come along when a value is copied from a web page: byte order mark, zero-width, no-break."""


def cleaned(value: str) -> str:
    """*value* without blanks, invisible characters and one pair of quotes around it, which are never meant.

    Example: `"https://contoso.crm4.dynamics.com"`, with its quotes, as it is pasted from a script.
    """
    value = value.strip(_INVISIBLE + string.whitespace)
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1].strip(_INVISIBLE + string.whitespace)
    return value


def _visible(value: str) -> str:
    if any(character in _INVISIBLE or not character.isprintable() for character in value):
        raise ValueError("holds an invisible character: type it anew")
    return value


def checked_url(value: str) -> str:
    """A URL: https, or plain http to this machine; without a user or password."""
    value = _visible(value.strip())
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if not parts.hostname or not (parts.scheme == "https" or is_loopback(value)):
        raise ValueError("must be an https URL (plain http is for this machine only)")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or password")
    return value


def checked_service_url(value: str) -> str:
    """A URL without a query, its host in lower case and without a slash at its end."""
    value = checked_url(value).rstrip("/")
    parts = urlsplit(value)
    if parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError("must be a plain URL, without a query")
    return parts._replace(netloc=parts.netloc.lower()).geturl()


def checked_environment_url(value: str) -> str:
    """The URL of an environment of Dataverse, without a path."""
    value = checked_service_url(value)
    if urlsplit(value).path or urlsplit(value).query:
        raise ValueError("must be the environment's URL alone, like https://contoso.crm4.dynamics.com")
    return value


def is_vault_reference(value: str) -> bool:
    """Whether *value* is what Azure leaves in the place of a secret it could not read; anybody could guess it."""
    return cleaned(value).casefold().startswith("@microsoft.keyvault(")


def checked_secret(value: SecretStr) -> SecretStr:
    """A secret that was resolved."""
    if is_vault_reference(value.get_secret_value()):
        raise ValueError(
            "is a Key Vault reference in the place of the secret, which could not be read:"
            " in Azure, is the app's identity Key Vault Secrets User of the vault?"
        )
    return value


def checked_notification_url(value: SecretStr) -> SecretStr:
    """The public URL of the app's endpoint, which holds a key."""
    return SecretStr(checked_url(checked_secret(value).get_secret_value()))


def checked_key(value: SecretStr) -> SecretStr:
    """A key of 32 characters or more that is not the example's."""
    if checked_secret(value).get_secret_value().startswith(PLACEHOLDER):
        raise ValueError("is the example's placeholder; python -c 'import secrets; print(secrets.token_urlsafe(32))'")
    if len(_visible(value.get_secret_value())) < 32:
        raise ValueError(
            "must be at least 32 characters; python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
        )
    return value


PLACEHOLDER = "replace-me"
"""How the key in local.settings.example.json begins: everybody knows it."""


def checked_column(value: str) -> str:
    """The logical name of a column that somebody added."""
    if not re.fullmatch(r"[a-z][a-z0-9]*_[a-z0-9_]+", value):
        raise ValueError("must be the column's logical name, like contoso_outlookeventid")
    return value


_PREFIXES = ("microsoft.outlookservices.opentypeextension.", "microsoft.graph.opentypeextension.")
"""Graph shows an extension's id with one of them before its name. Source: Graph, "Get openTypeExtension"."""


def checked_extension_name(value: str) -> str:
    """An open extension's name, without the prefix that Graph shows before it."""
    for prefix in _PREFIXES:
        if value.casefold().startswith(prefix):
            value = value[len(prefix) :]
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value):
        raise ValueError("must be the open extension's name, like com.contoso.booking")
    return value


def checked_extension_property(value: str) -> str:
    """The name of a property."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", value) or value.casefold() in ("none", "null"):
        raise ValueError("must be the name of the property in which the extension holds the booking's id")
    return value


def checked_guid(value: str) -> str:
    """A GUID in any spelling, as the app compares it."""
    try:
        return guid_of(value.strip())
    except ValueError:
        raise ValueError("must be a GUID") from None


def checked_guids(value: Any) -> frozenset[str]:
    """GUIDs between commas; at least one."""
    texts = [text for text in (value.split(",") if isinstance(value, str) else value) if text.strip()]
    if isinstance(value, str) and not texts:
        raise ValueError("names nobody; leave it empty for everybody")
    return frozenset(checked_guid(cleaned(text)) for text in texts)


def checked_account_name(value: str) -> str:
    """A storage account's name."""
    if not re.fullmatch(r"[a-z0-9]{3,24}", value):
        raise ValueError("must be the storage account's name alone, 3 to 24 lower-case letters and digits")
    return value


def checked_connection_string(value: str | None) -> str | None:
    """A connection string that was resolved."""
    if value is not None and is_vault_reference(value):
        raise ValueError("is a Key Vault reference in the place of the connection string, which could not be read")
    return value
