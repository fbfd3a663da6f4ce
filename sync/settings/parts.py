"""A mapping (the environment) → settings; every missing or unreadable one is named at once, with its cure.

Several parts, because a notification has to be acknowledged with the least of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

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
from sync.model import ConflictPolicy, SyncMode
from sync.settings.values import (
    checked_account_name,
    checked_column,
    checked_connection_string,
    checked_environment_url,
    checked_extension_name,
    checked_extension_property,
    checked_guid,
    checked_guids,
    checked_key,
    checked_notification_url,
    checked_service_url,
    cleaned,
)

Guid = Annotated[str, AfterValidator(checked_guid)]
Key = Annotated[SecretStr, AfterValidator(checked_key)]

UNDOCUMENTED = ""
"""The description of a setting that docs/settings.md leaves out."""


class StorageSettings(BaseModel):
    """Where the app's queues and tables are: all that is needed to look at what is parked, held or counted."""

    storage_account: Annotated[str, AfterValidator(checked_account_name)] | None = Field(
        None,
        alias="AzureWebJobsStorage__accountName",
        description="name of the storage account, for an identity in the place of a connection string",
    )
    storage_queue_url: Annotated[str, AfterValidator(checked_service_url)] | None = Field(
        None,
        alias="AzureWebJobsStorage__queueServiceUri",
        description="its queues, where they are not at the public cloud's address",
    )
    storage_table_url: Annotated[str, AfterValidator(checked_service_url)] | None = Field(
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
        return checked_connection_string(value)


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

    dataverse_url: Annotated[str, AfterValidator(checked_environment_url)] = Field(
        alias="DATAVERSE_URL", description="the environment, like `https://contoso.crm4.dynamics.com`"
    )
    event_id_column: Annotated[str, AfterValidator(checked_column)] = Field(
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


class ExtensionSettings(BaseModel):
    """What makes an event a booking's."""

    extension_name: Annotated[str, AfterValidator(checked_extension_name)] = Field(
        "Com.Anttipajunen.BookingSyncOpenExtension",
        alias="EXTENSION_NAME",
        description="name of the open extension in which an event holds its booking's id",
    )
    extension_property: Annotated[str, AfterValidator(checked_extension_property)] = Field(
        "bookingSyncGuid", alias="EXTENSION_PROPERTY", description="property of that extension"
    )


class Settings(AcknowledgeSettings, EnvironmentSettings, ModeSettings, ExtensionSettings):
    """All settings of the app."""

    graph_url: Annotated[str, AfterValidator(checked_service_url)] = Field(
        "https://graph.microsoft.com/v1.0", alias="GRAPH_URL", description="Microsoft Graph with its version"
    )
    notification_url: Annotated[SecretStr, AfterValidator(checked_notification_url)] = Field(
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
    mailboxes: Annotated[frozenset[str], BeforeValidator(checked_guids)] = Field(
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
    given = {name: value for name in names.values() if (value := cleaned(environment.get(name, "")))}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        raise Misconfigured("; ".join(_complaint(problem, names) for problem in problems)) from None


def _complaint(problem: Any, names: Mapping[str, str]) -> str:
    where = str(problem["loc"][0])  # a setting's name, or the field's where a default does not do
    what = "is missing" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
    return f"{names.get(where, where)} {what}"
