"""A mapping (the environment) → settings; every missing or unreadable one is named at once, with its cure.

Several parts, because a notification has to be acknowledged with the least of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from sync.errors import Misconfigured
from sync.ids import guid_of
from sync.model import ConflictPolicy, SyncMode

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def is_loopback(url: str) -> bool:
    """Whether *url* is plain http to this machine: the one place where no encryption and no identity are asked for."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in _LOOPBACK


def _url(value: str) -> str:
    value = value.strip()
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


def _service_url(value: str) -> str:
    value = _url(value).rstrip("/")
    parts = urlsplit(value)
    if parts.query or parts.fragment or re.search(r"\s", value):
        raise ValueError("must be a plain URL, without a query")
    return parts._replace(netloc=parts.netloc.lower()).geturl()


def _environment_url(value: str) -> str:
    value = _service_url(value)
    if urlsplit(value).path or urlsplit(value).query:
        raise ValueError("must be the environment's URL alone, like https://contoso.crm4.dynamics.com")
    return value


def is_vault_reference(value: str) -> bool:
    """Whether *value* is what Azure leaves in the place of a secret it could not read; anybody could guess it."""
    return value.startswith("@Microsoft.KeyVault(")


def _secret(value: SecretStr) -> SecretStr:
    if is_vault_reference(value.get_secret_value()):
        raise ValueError(
            "is a Key Vault reference in the place of the secret, which could not be read:"
            " in Azure, is the app's identity Key Vault Secrets User of the vault?"
        )
    return value


def _notification_url(value: SecretStr) -> SecretStr:
    return SecretStr(_url(_secret(value).get_secret_value()))


def _key(value: SecretStr) -> SecretStr:
    if len(_secret(value).get_secret_value()) < 32:
        raise ValueError(
            "must be at least 32 characters; python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
        )
    return value


def _column(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]*_[a-z0-9_]+", value):
        raise ValueError("must be the column's logical name, like contoso_outlookeventid")
    return value


def _extension_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value):
        raise ValueError("must be the open extension's name, like com.contoso.booking")
    return value


def _guid(value: str) -> str:
    try:
        return guid_of(value.strip())
    except ValueError:
        raise ValueError("must be a GUID") from None


def _guids(value: Any) -> frozenset[str]:
    texts = value.split(",") if isinstance(value, str) else value
    return frozenset(_guid(text) for text in texts if text.strip())


Guid = Annotated[str, AfterValidator(_guid)]
Key = Annotated[SecretStr, AfterValidator(_key)]

UNDOCUMENTED = ""
"""The description of a setting that docs/settings.md leaves out."""


class StorageSettings(BaseModel):
    """Where the app's queues and tables are: all that is needed to look at what is parked, held or counted."""

    storage_account: str | None = Field(
        None,
        alias="AzureWebJobsStorage__accountName",
        description="name of the storage account, for an identity in the place of a connection string",
    )
    storage_queue_url: str | None = Field(
        None,
        alias="AzureWebJobsStorage__queueServiceUri",
        description="its queues, where they are not at the public cloud's address",
    )
    storage_table_url: str | None = Field(
        None, alias="AzureWebJobsStorage__tableServiceUri", description="its tables, likewise"
    )
    storage_client_id: str | None = Field(
        None, alias="AzureWebJobsStorage__clientId", description="client id of a user-assigned identity"
    )
    storage: str | None = Field(
        None,
        alias="AzureWebJobsStorage",
        description="connection string of the storage account; or the following, for an identity",
        validate_default=True,
    )

    # A validator of the whole would keep silent as long as another setting is missing.
    @field_validator("storage")
    @classmethod
    def _storage_is_named(cls, value: str | None, before: ValidationInfo) -> str | None:
        if not (value or before.data.get("storage_account") or before.data.get("storage_queue_url")):
            raise ValueError("(or AzureWebJobsStorage__accountName, for an identity) is missing")
        return value


class AcknowledgeSettings(StorageSettings):
    """The settings of an acknowledgement: storage, and the keys that clientStates are checked with."""

    client_state_key: Key = Field(
        alias="CLIENT_STATE_KEY",
        description="32 or more random characters, from which each `clientState` is derived",
    )
    previous_client_state_key: Key | None = Field(
        None,
        alias="CLIENT_STATE_KEY_PREVIOUS",
        description="the former key, valid until the subscriptions have moved to the new one, and four hours longer:"
        " for so long Graph tries again what was notified with it",
    )
    settle_seconds: int = Field(7, alias="SETTLE_SECONDS", description=UNDOCUMENTED, ge=0, le=60)
    """Seconds for which a change waits for more of the same event. For tests and the sandbox only.

    Too short, and a burst costs several runs; too long, and a booking lags behind its event. Changes of the last two
    seconds get a run of their own, as storage's clock is coarse.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        """The valid clientState keys, the current one first."""
        keys = (self.client_state_key, self.previous_client_state_key)
        return tuple(key.get_secret_value() for key in keys if key is not None)


class EnvironmentSettings(BaseModel):
    """Where the bookings are; all that is known before the app is deployed."""

    dataverse_url: Annotated[str, AfterValidator(_environment_url)] = Field(
        alias="DATAVERSE_URL", description="the environment, like `https://contoso.crm4.dynamics.com`"
    )
    event_id_column: Annotated[str, AfterValidator(_column)] = Field(
        alias="EVENT_ID_COLUMN",
        description="logical name of the booking's text column for the event id, like `contoso_outlookeventid`",
    )


class ModeSettings(BaseModel):
    """Whether bookings are written: all that people are shown of the settings."""

    sync_mode: SyncMode = Field(
        SyncMode.SYNC,
        alias="SYNC_MODE",
        description="`observe` writes nothing to Dataverse; `python -m sync report` shows what would have been written",
    )


class Settings(AcknowledgeSettings, EnvironmentSettings, ModeSettings):
    """All settings of the app."""

    graph_url: Annotated[str, AfterValidator(_service_url)] = Field(
        "https://graph.microsoft.com/v1.0", alias="GRAPH_URL", description="Microsoft Graph with its version"
    )
    extension_name: Annotated[str, AfterValidator(_extension_name)] = Field(
        "Com.Anttipajunen.BookingSyncOpenExtension",
        alias="EXTENSION_NAME",
        description="name of the open extension in which an event holds its booking's id",
    )
    extension_property: str = Field(
        "bookingSyncGuid", alias="EXTENSION_PROPERTY", description="property of that extension"
    )
    notification_url: Annotated[SecretStr, AfterValidator(_notification_url)] = Field(
        alias="NOTIFICATION_URL", description="public URL of the function `notifications`, with its `?code=`"
    )
    canceled_status_id: Guid | None = Field(
        None,
        alias="CANCELED_STATUS_ID",
        description="id of the booking status to cancel with, where several could be meant; found otherwise",
    )
    conflict_policy: ConflictPolicy = Field(
        ConflictPolicy.DATAVERSE,
        alias="CONFLICT_POLICY",
        description="where both were changed: `dataverse` (the booking stays), `outlook` (it follows) or `hold`",
    )
    cancellations_per_mailbox: int = Field(
        30,
        alias="CANCELLATIONS_PER_MAILBOX",
        description="so many bookings of one mailbox may be canceled within an hour; beyond that a person is asked",
        ge=0,
    )
    cancellations_in_all: int = Field(
        200,
        alias="CANCELLATIONS_IN_ALL",
        description="so many of all mailboxes together may be canceled within an hour; beyond that a person is asked",
        ge=0,
    )
    mailboxes: Annotated[frozenset[str], BeforeValidator(_guids)] = Field(
        frozenset(),
        alias="MAILBOXES",
        description="comma-separated Entra object ids of users, to begin with a pilot; everybody otherwise",
    )


S = TypeVar("S", bound=BaseModel)

RETIRED = {
    "NOT_OURS_HOURS": "an event without our extension is believed to be none of ours for 24 hours",
    "LEAVERS_SHARE": "a fifth of the subscribed mailboxes may leave in one run without a person's word",
}
"""Settings that are constants now. One that is set is ignored, and the log says so once."""


def retired(environment: Mapping[str, str]) -> list[str]:
    """What to log of the settings in *environment* that do nothing any more."""
    return [f"{name} is ignored: {why}" for name, why in RETIRED.items() if environment.get(name, "").strip()]


def parse_settings(kind: type[S], environment: Mapping[str, str]) -> S:
    """Read *kind* from *environment*, asked by name; a setting that is empty counts as missing.

    Windows lists the names of its environment in upper case, and finds them in any.

    Raises: Misconfigured, naming every setting that is missing or unreadable, and never a value.
    """
    names = {field: str(info.alias) for field, info in kind.model_fields.items()}
    given = {name: environment[name] for name in names.values() if environment.get(name, "").strip()}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        raise Misconfigured("; ".join(_complaint(problem, names) for problem in problems)) from None


def _complaint(problem: Any, names: Mapping[str, str]) -> str:
    where = str(problem["loc"][0])  # a setting's name, or the field's where a default does not do
    what = "is missing" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
    return f"{names.get(where, where)} {what}"
