"""The real thing, built once: which credential goes where, and whose mailboxes are wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sync.calls.pauses import DATAVERSE
from sync.errors import Misconfigured, NotWritten, Throttled
from sync.model import SyncMode
from sync.pairs.actions import LinkBooking
from sync.wiring.app import App

ANNA = "a11a0000-abcd-4aaa-8aaa-0123456789ab"
BEN = "be220000-abcd-4bbb-8bbb-0123456789ab"
STORAGE = "DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"
LOOPBACK = {"GRAPH_URL": "http://127.0.0.1:1/v1.0", "DATAVERSE_URL": "http://127.0.0.1:1"}
CLOUD = {"GRAPH_URL": "https://graph.microsoft.com/v1.0", "DATAVERSE_URL": "https://contoso.crm4.dynamics.com"}
OTHERS = {
    "AzureWebJobsStorage": STORAGE,
    "CLIENT_STATE_KEY": "k" * 32,
    "EVENT_ID_COLUMN": "contoso_outlookeventid",
    "NOTIFICATION_URL": "https://booking-sync.example/api/notifications?code=functionkey",
}


class Identity:
    """Stands for DefaultAzureCredential, which looks around on the machine when it is made."""

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        raise AssertionError("nobody is asked for a token here")

    async def close(self) -> None:
        """Nothing is open."""


class Recorded(App):
    """Tells for which client ids it made identities."""

    def __init__(self, **settings: str) -> None:
        super().__init__({**OTHERS, **LOOPBACK, **settings})
        self.made: list[str | None] = []

    def identity(self, client_id: str | None = None) -> Any:
        self.made.append(client_id)
        return Identity()

    def build(self) -> None:
        """Build all that talks to the services."""
        assert all([self.changes, self.processor, self.keeper, self.sweeper, self.door])


@pytest.fixture
async def build() -> AsyncIterator[Callable[..., Recorded]]:
    """Makes apps of settings; they are closed in the end."""
    made: list[Recorded] = []

    def build(**settings: str) -> Recorded:
        made.append(Recorded(**settings))
        return made[-1]

    yield build
    for app in made:
        await app.close()


Build = Callable[..., Recorded]


async def test_simulated_services_get_the_fixed_token(build: Build) -> None:
    app = build()
    app.build()
    assert app.made == []


async def test_everything_else_gets_the_apps_identity(build: Build) -> None:
    app = build(**CLOUD)
    app.build()
    assert app.made == [None, None]


async def test_the_fixed_token_does_not_go_to_one_service_because_the_other_is_simulated(build: Build) -> None:
    app = build(DATAVERSE_URL=CLOUD["DATAVERSE_URL"])
    app.build()
    assert app.made == [None]


async def test_all_is_built_once(build: Build) -> None:
    app = build()
    assert app.processor is app.processor
    assert app.queues is app.sweeper.queues


async def test_what_could_not_be_built_is_built_once_the_settings_are_there(build: Build) -> None:
    app = build(DATAVERSE_URL="")
    with pytest.raises(Misconfigured, match="DATAVERSE_URL is missing"):
        app.build()
    app.environment = {**app.environment, **LOOPBACK}
    app.build()


@pytest.mark.parametrize(
    ("settings", "url", "identities"),
    [
        ({}, "https://contoso.queue.core.windows.net/", []),
        (
            {"AzureWebJobsStorage": "", "AzureWebJobsStorage__accountName": "fabrikam"},
            "https://fabrikam.queue.core.windows.net/",
            [None],
        ),
        (
            {
                "AzureWebJobsStorage": "",
                "AzureWebJobsStorage__queueServiceUri": "https://fabrikam.queue.core.usgovcloudapi.net",
                "AzureWebJobsStorage__clientId": "client",
            },
            "https://fabrikam.queue.core.usgovcloudapi.net/",
            ["client"],
        ),
    ],
    ids=["a connection string", "an account and an identity", "another cloud and a certain identity"],
)
async def test_the_queues_are_reached_by(
    build: Build, settings: dict[str, str], url: str, identities: list[str | None]
) -> None:
    app = build(**settings)
    assert app.queues._service.url == url
    assert app.made == identities


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "https://contoso.table.core.windows.net"),
        (
            {"AzureWebJobsStorage": "", "AzureWebJobsStorage__accountName": "fabrikam"},
            "https://fabrikam.table.core.windows.net",
        ),
        (
            {
                "AzureWebJobsStorage": "",
                "AzureWebJobsStorage__queueServiceUri": "https://fabrikam.queue.core.usgovcloudapi.net",
            },
            "https://fabrikam.table.core.usgovcloudapi.net",
        ),
        (
            {
                "AzureWebJobsStorage": "",
                "AzureWebJobsStorage__queueServiceUri": "https://fabrikam.queue.core.windows.net",
                "AzureWebJobsStorage__tableServiceUri": "https://elsewhere.table.core.windows.net",
            },
            "https://elsewhere.table.core.windows.net",
        ),
    ],
    ids=["a connection string", "an account", "the queues' address alone", "an address of its own"],
)
async def test_the_tables_are_reached_by(build: Build, settings: dict[str, str], url: str) -> None:
    assert build(**settings).table("roster")._client.url.rstrip("/") == url


class Mailboxes:
    """The bookable resources' users; notes when they are asked for."""

    def __init__(self, happened: list[str]) -> None:
        self.happened = happened

    async def mailboxes(self) -> list[str]:
        self.happened.append("asked")
        return [ANNA, BEN]


@pytest.mark.parametrize(
    ("limit", "wanted"), [("", [ANNA, BEN]), (BEN.upper(), [BEN]), ("33333333-3333-4333-8333-333333333333", [])]
)
async def test_a_pilot_is_limited_to_its_mailboxes(build: Build, limit: str, wanted: list[str]) -> None:
    app = build(MAILBOXES=limit)
    app.bookings.resources = Mailboxes([])  # type: ignore[assignment]
    assert await app.wanted() == wanted


async def test_the_roster_waits_until_dataverse_takes_calls_again(build: Build) -> None:
    happened: list[str] = []

    class Closed:
        async def wait_for_dataverse(self) -> None:
            happened.append("waited")

    app = build()
    app.bookings.resources = Mailboxes(happened)  # type: ignore[assignment]
    app.door = Closed()  # type: ignore[assignment]
    await app.wanted()
    assert happened == ["waited", "asked"]


async def test_a_change_is_let_in_by_what_its_own_calls_are_told(build: Build) -> None:
    app = build()
    for pauses, what in ((app.to_graph.pauses, ANNA), (app.to_dataverse.pauses, DATAVERSE)):
        with pytest.raises(Throttled), pauses.kept(what):
            raise Throttled("429", 9_000.0)
        with pytest.raises(Throttled, match="left alone"):
            await app.changes.let_in(ANNA)


async def test_storage_without_tables_is_misconfigured(build: Build) -> None:
    endpoint = "QueueEndpoint=https://contoso.queue.core.windows.net/;SharedAccessSignature=sv=1&sig=x"
    with pytest.raises(Misconfigured, match="AzureWebJobsStorage"):
        assert build(AzureWebJobsStorage=endpoint).ledger


async def test_while_it_only_observes_it_can_write_nothing_but_what_a_person_customizes(build: Build) -> None:
    app = build(SYNC_MODE="observe")
    assert app.processor.mode is SyncMode.OBSERVE
    for bookings in (app.processor.bookings, app.bookings):
        with pytest.raises(NotWritten, match="SYNC_MODE"):
            await bookings.write(LinkBooking(ANNA, 'W/"1"', "E1"))
    assert app.customizing._may_write
