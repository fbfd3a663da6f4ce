"""The environment → settings: what is missing or unreadable is named at once, and no value is ever repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from sync.errors import Misconfigured
from sync.model import SyncMode
from sync.settings.parts import AcknowledgeSettings, Settings, parse_settings, retired
from sync.settings.values import is_loopback

ANNA = "a11a0000-abcd-4aaa-8aaa-0123456789ab"
BEN = "be220000-abcd-4bbb-8bbb-0123456789ab"
KEY = "k" * 32
STORAGE = "DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=c2VjcmV0"

ENVIRONMENT = {
    "AzureWebJobsStorage": STORAGE,
    "CLIENT_STATE_KEY": KEY,
    "DATAVERSE_URL": "https://contoso.crm4.dynamics.com",
    "EVENT_ID_COLUMN": "contoso_outlookeventid",
    "NOTIFICATION_URL": "https://booking-sync.example/api/notifications?code=functionkey",
    "PATH": "/usr/bin",
}


def settings(**environment: str) -> Settings:
    return parse_settings(Settings, ENVIRONMENT | environment)


def complaint(environment: Mapping[str, str], kind: type[AcknowledgeSettings] = Settings) -> str:
    with pytest.raises(Misconfigured) as info:
        parse_settings(kind, environment)
    return str(info.value)


def test_what_is_required_is_enough():
    found = settings()
    assert found.storage == STORAGE
    assert found.keys == (KEY,)
    assert found.dataverse_url == "https://contoso.crm4.dynamics.com"
    assert found.event_id_column == "contoso_outlookeventid"
    assert found.notification_url.get_secret_value() == ENVIRONMENT["NOTIFICATION_URL"]


def test_existing_deployments_are_adopted_by_default():
    found = settings()
    assert found.graph_url == "https://graph.microsoft.com/v1.0"
    assert found.extension_name == "Com.Anttipajunen.BookingSyncOpenExtension"
    assert found.extension_property == "bookingSyncGuid"
    assert found.canceled_status_id is None
    assert found.mailboxes == frozenset()
    assert found.sync_mode is SyncMode.SYNC


REQUIRED = ["CLIENT_STATE_KEY", "DATAVERSE_URL", "EVENT_ID_COLUMN", "NOTIFICATION_URL"]


def test_all_that_is_missing_is_named_at_once():
    text = complaint({})
    for name in ["AzureWebJobsStorage (or", *(f"{name} is missing" for name in REQUIRED)]:
        assert name in text
    assert text.count("is missing") == 5


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", ["", " ", "\t\n"], ids=["empty", "a blank", "white space"])
def test_what_is_empty_is_missing(name, value):
    assert complaint(ENVIRONMENT | {name: value}) == f"{name} is missing"


def test_an_acknowledgement_needs_storage_and_the_key_alone():
    assert parse_settings(AcknowledgeSettings, {"AzureWebJobsStorage": STORAGE, "CLIENT_STATE_KEY": KEY}).keys == (KEY,)
    text = complaint({}, AcknowledgeSettings)
    assert "AzureWebJobsStorage " in text
    assert "CLIENT_STATE_KEY is missing" in text
    assert "DATAVERSE_URL" not in text


def test_what_is_empty_has_its_default():
    found = settings(
        GRAPH_URL="", EXTENSION_NAME="", CANCELED_STATUS_ID="", MAILBOXES=" ", CLIENT_STATE_KEY_PREVIOUS=""
    )
    assert found == settings()


@pytest.mark.parametrize(
    "around", ["{} ", "\ufeff{}", "\u200b{}\u200e", '"{}"', "'{}'", ' "{}"\n', "\u00a0{}"], ids=ascii
)
@pytest.mark.parametrize("name", ["DATAVERSE_URL", "CLIENT_STATE_KEY", "EXTENSION_PROPERTY", "AzureWebJobsStorage"])
def test_what_a_copied_value_brings_along_is_not_part_of_it(name, around):
    value = (ENVIRONMENT | {"EXTENSION_PROPERTY": "bookingSyncGuid", "AzureWebJobsStorage": STORAGE})[name]
    assert settings(**{name: around.format(value)}) == settings(**{name: value})


@pytest.mark.parametrize(
    "prefix", ["Microsoft.OutlookServices.OpenTypeExtension.", "microsoft.graph.openTypeExtension."]
)
def test_an_extensions_name_is_meant_without_the_prefix_that_graph_shows(prefix):
    assert settings(EXTENSION_NAME=f"{prefix}com.contoso.booking").extension_name == "com.contoso.booking"


UNREADABLE = [
    pytest.param("EXTENSION_PROPERTY", "booking Guid", "the property", id="a property with a blank"),
    pytest.param("EXTENSION_PROPERTY", "None", "the property", id="a property that a script did not have"),
    pytest.param("MAILBOXES", ",", "names nobody", id="a pilot without anybody"),
    pytest.param("DATAVERSE_URL", "https://con\u200btoso.crm4.dynamics.com", "invisible", id="a zero-width space"),
    pytest.param("CLIENT_STATE_KEY", "k" * 20 + "\u200e" + "k" * 20, "invisible", id="a mark in a key"),
    pytest.param(
        "CLIENT_STATE_KEY", "replace-me-by-32-or-more-random-characters", "placeholder", id="the example's key"
    ),
    pytest.param(
        "CLIENT_STATE_KEY",
        "@microsoft.keyvault(SecretUri=https://contoso.vault.azure.net/secrets/key)",
        "Key Vault reference",
        id="a reference in lower case",
    ),
    pytest.param(
        "AzureWebJobsStorage",
        "@Microsoft.KeyVault(SecretUri=https://x)",
        "Key Vault reference",
        id="no connection string",
    ),
    pytest.param("AzureWebJobsStorage__accountName", "https://contoso.example", "name alone", id="an account's URL"),
    pytest.param("AzureWebJobsStorage__queueServiceUri", "http://contoso.example", "https URL", id="plain queues"),
    pytest.param("AzureWebJobsStorage__tableServiceUri", "contoso.example", "https URL", id="tables without scheme"),
    pytest.param("GRAPH_URL", "graph.microsoft.com", "https URL", id="a URL without scheme"),
    pytest.param("GRAPH_URL", "http://graph.microsoft.com/v1.0", "https URL", id="a token in plain sight"),
    pytest.param("GRAPH_URL", "https://[graph", "is not a URL", id="half an address"),
    pytest.param("GRAPH_URL", "https://graph.microsoft.com:99999", "is not a URL", id="a port beyond all"),
    pytest.param("GRAPH_URL", "https:///v1.0", "https URL", id="a URL without host"),
    pytest.param("DATAVERSE_URL", "ftp://contoso.example", "https URL", id="another scheme"),
    pytest.param(
        "DATAVERSE_URL", "http://127.0.0.1.contoso.example", "https URL", id="a host that begins like loopback"
    ),
    pytest.param("DATAVERSE_URL", "http://127.0.0.1@contoso.example", "https URL", id="loopback as a user's name"),
    pytest.param("DATAVERSE_URL", "https://user:password@contoso.example", "password", id="a password in the URL"),
    pytest.param(
        "DATAVERSE_URL", "https://contoso.crm4.dynamics.com/api/data/v9.2", "alone", id="more than the environment"
    ),
    pytest.param("DATAVERSE_URL", "https://contoso.crm4.dynamics.com?a=b", "without a query", id="one with a query"),
    pytest.param("NOTIFICATION_URL", "http://contoso.example/api/notifications", "https URL", id="a plain webhook"),
    pytest.param("NOTIFICATION_URL", "/api/notifications", "https URL", id="a webhook without host"),
    pytest.param("EVENT_ID_COLUMN", "Outlook event id", "logical name", id="a column's display name"),
    pytest.param("EVENT_ID_COLUMN", "Contoso_OutlookEventId", "logical name", id="a column's schema name"),
    pytest.param("EVENT_ID_COLUMN", "outlookevent42", "logical name", id="a column without prefix"),
    pytest.param("EVENT_ID_COLUMN", "contoso_a,contoso_b", "logical name", id="two columns"),
    pytest.param("EVENT_ID_COLUMN", "contoso_\nx", "logical name", id="a column with a line end in it"),
    pytest.param("EXTENSION_NAME", "booking's", "open extension", id="an extension with a quote"),
    pytest.param("CLIENT_STATE_KEY", "k" * 31, "at least 32", id="a key too short"),
    pytest.param(
        "CLIENT_STATE_KEY",
        "@Microsoft.KeyVault(SecretUri=https://contoso.vault.azure.net/secrets/key)",
        "Key Vault reference",
        id="a secret that was not found",
    ),
    pytest.param(
        "NOTIFICATION_URL",
        "@Microsoft.KeyVault(SecretUri=https://contoso.vault.azure.net/secrets/url)",
        "Key Vault reference",
        id="a URL that was not found",
    ),
    pytest.param("CLIENT_STATE_KEY_PREVIOUS", "short", "at least 32", id="a previous key too short"),
    pytest.param("CANCELED_STATUS_ID", "Canceled", "a GUID", id="a status by its name"),
    pytest.param("SYNC_MODE", "Observe", "'sync' or 'observe'", id="a mode that might be meant"),
    pytest.param("MAILBOXES", "anna@contoso.example", "a GUID", id="a mailbox by its address"),
    pytest.param("MAILBOXES", f"{ANNA};{BEN}", "a GUID", id="mailboxes with another separator"),
]


@pytest.mark.parametrize(("name", "value", "reason"), UNREADABLE)
def test_unreadable_and_named_without_its_value_is(name, value, reason):
    text = complaint(ENVIRONMENT | {name: value})
    assert re.fullmatch(rf"{name} .*{reason}.*", text)
    assert value not in text


def test_what_is_missing_and_what_is_unreadable_are_named_together():
    text = complaint({"GRAPH_URL": "graph", "MAILBOXES": "anna", "CLIENT_STATE_KEY": "secret"})
    for name in ["GRAPH_URL", "MAILBOXES", "AzureWebJobsStorage", *REQUIRED]:
        assert f"{name} " in text


def test_no_value_is_repeated_and_no_secret_printed():
    values = {name: f"planted-{name}" for name in [*ENVIRONMENT, "GRAPH_URL", "MAILBOXES", "CANCELED_STATUS_ID"]}
    with pytest.raises(Misconfigured) as info:
        parse_settings(Settings, values | {"CLIENT_STATE_KEY": "planted"})
    assert "planted" not in str(info.value)
    assert "planted" not in repr(info.value)
    assert info.value.__suppress_context__  # a traceback would tell what pydantic was given
    for text in (repr(settings()), str(settings()), f"{settings()}"):
        assert KEY not in text
        assert "functionkey" not in text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_plain_http_is_for_this_machine(host):
    found = settings(
        GRAPH_URL=f"http://{host}:7071/v1.0", DATAVERSE_URL=f"http://{host}:7072", NOTIFICATION_URL=f"http://{host}/api"
    )
    assert is_loopback(found.graph_url)
    assert is_loopback(found.dataverse_url)


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/v1.0", "https://graph.microsoft.com/v1.0", "http://127.0.0.1.example/", "http://10.0.0.1/"],
)
def test_the_fixed_token_is_for_plain_http_on_this_machine_alone(url):
    assert not is_loopback(url)


def test_a_service_url_loses_blanks_and_its_last_slash():
    found = settings(GRAPH_URL=" https://graph.microsoft.us/v1.0/ ", DATAVERSE_URL="https://contoso.crm4.dynamics.com/")
    assert found.graph_url == "https://graph.microsoft.us/v1.0"
    assert found.dataverse_url == "https://contoso.crm4.dynamics.com"


@pytest.mark.parametrize("url", ["https://contoso.example/api/notifications?code=ab/cd/", "https://contoso.example/a/"])
def test_the_notification_url_is_kept_to_the_last_character(url):
    """A function key may end in a slash, and subscriptions are known by this URL."""
    assert settings(NOTIFICATION_URL=f" {url}\n").notification_url.get_secret_value() == url


def test_mailboxes_are_object_ids_in_any_case_with_blanks_around():
    assert settings(MAILBOXES=f" {ANNA.upper()} ,, {BEN},").mailboxes == {ANNA, BEN}


def test_a_canceled_status_is_a_guid_in_any_case():
    assert settings(CANCELED_STATUS_ID=f" {ANNA.upper()} ").canceled_status_id == ANNA


def test_the_current_key_comes_first():
    assert settings(CLIENT_STATE_KEY_PREVIOUS="p" * 40).keys == (KEY, "p" * 40)


@pytest.mark.parametrize(
    ("names", "field"),
    [
        ({"AzureWebJobsStorage__accountName": "contoso"}, "storage_account"),
        ({"AzureWebJobsStorage__queueServiceUri": "https://contoso.queue.core.windows.net"}, "storage_queue_url"),
    ],
    ids=["account name", "queue service URI"],
)
def test_an_identity_may_take_the_connection_strings_place(names, field):
    environment = ENVIRONMENT | {"AzureWebJobsStorage": "", "AzureWebJobsStorage__clientId": "client"} | names
    found = parse_settings(Settings, environment)
    assert getattr(found, field) == next(iter(names.values()))
    assert found.storage_client_id == "client"
    assert found.storage is None


def test_a_client_id_alone_is_no_storage():
    environment = ENVIRONMENT | {"AzureWebJobsStorage": "", "AzureWebJobsStorage__clientId": "client"}
    text = complaint(environment)
    assert text == "AzureWebJobsStorage (or AzureWebJobsStorage__accountName, for an identity) is missing"


class Windows(Mapping[str, str]):
    """An environment as Windows keeps it: names are found in any case, and listed in upper case."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._values = {name.upper(): value for name, value in environment.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.upper()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def test_settings_are_found_in_the_environment_of_windows():
    environment: dict[str, Any] = ENVIRONMENT | {"AzureWebJobsStorage__clientId": "client"}
    found = parse_settings(Settings, Windows(environment))
    assert found == parse_settings(Settings, environment)


def test_a_setting_that_does_nothing_any_more_is_told_with_the_reason_and_ignored() -> None:
    environment: dict[str, Any] = ENVIRONMENT | {"NOT_OURS_HOURS": "planted", "LEAVERS_SHARE": "", "SYNC_MOD": "x"}
    [line] = retired(environment)
    assert "NOT_OURS_HOURS is ignored" in line
    assert "planted" not in line
    assert parse_settings(Settings, environment) == parse_settings(Settings, ENVIRONMENT)
