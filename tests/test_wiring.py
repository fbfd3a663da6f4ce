"""The real thing, built once: which credential goes where, and whose mailboxes are wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import azure.identity.aio
import pytest

from sync import wiring
from sync.calls.credentials import LoopbackCredential
from sync.calls.pauses import DATAVERSE, Door
from sync.dataverse.resources import Resources
from sync.errors import Misconfigured, NotWritten, Throttled
from sync.model import SyncMode
from sync.pairs.actions import LinkBooking

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

    made: list[dict[str, Any]]

    def __init__(self, **options: Any) -> None:
        Identity.made.append(options)

    async def get_token(self, *scopes: str, **options: Any) -> Any:
        raise AssertionError("nobody is asked for a token here")

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
async def environment(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[pytest.MonkeyPatch]:
    """Settings to set, an identity that tells how it was made; what is built is closed in the end."""
    caches = ("_acknowledge_settings", "_environment_settings", "_settings", "_storage_settings")
    caches += ("_queues", "_dataverse_of", "_parts_of", "_counting", "_counters")
    for built in caches:
        monkeypatch.setattr(wiring, built, cache(getattr(wiring, built).__wrapped__))
    monkeypatch.setattr(azure.identity.aio, "DefaultAzureCredential", Identity)
    Identity.made = []
    for name in ("AzureWebJobsStorage__accountName", "AzureWebJobsStorage__clientId", "MAILBOXES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (OTHERS | LOOPBACK).items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    await wiring.close()


def use(environment: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        environment.setenv(name, value)


async def test_simulated_services_get_the_fixed_token(environment):
    await wiring._parts()
    assert Identity.made == []
    assert isinstance(wiring._credential(True), LoopbackCredential)


async def test_everything_else_gets_the_apps_identity(environment):
    use(environment, **CLOUD)
    await wiring._parts()
    assert Identity.made == [{}, {}]


async def test_the_fixed_token_does_not_go_to_one_service_because_the_other_is_simulated(environment):
    use(environment, DATAVERSE_URL=CLOUD["DATAVERSE_URL"])
    await wiring._parts()
    assert Identity.made == [{}]


async def test_all_is_built_once_until_it_is_closed(environment):
    parts, queues = await wiring._parts(), wiring._queues()
    assert await wiring._parts() is parts
    assert wiring._queues() is queues
    await wiring.close()
    assert await wiring._parts() is not parts
    assert wiring._queues() is not queues


async def test_what_could_not_be_built_is_built_once_the_settings_are_there(environment):
    use(environment, DATAVERSE_URL="")
    with pytest.raises(Misconfigured, match="DATAVERSE_URL is missing"):
        await wiring._parts()
    use(environment, DATAVERSE_URL=LOOPBACK["DATAVERSE_URL"])
    await wiring._parts()


@pytest.mark.parametrize(
    ("settings", "url", "identities"),
    [
        ({}, "https://contoso.queue.core.windows.net/", []),
        (
            {"AzureWebJobsStorage": "", "AzureWebJobsStorage__accountName": "fabrikam"},
            "https://fabrikam.queue.core.windows.net/",
            [{}],
        ),
        (
            {
                "AzureWebJobsStorage": "",
                "AzureWebJobsStorage__queueServiceUri": "https://fabrikam.queue.core.usgovcloudapi.net",
                "AzureWebJobsStorage__clientId": "client",
            },
            "https://fabrikam.queue.core.usgovcloudapi.net/",
            [{"managed_identity_client_id": "client"}],
        ),
    ],
    ids=["a connection string", "an account and an identity", "another cloud and a certain identity"],
)
async def test_the_queues_are_reached_by(environment, settings, url, identities):
    use(environment, **settings)
    assert wiring._queues()._service.url == url
    assert Identity.made == identities


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
async def test_the_rosters_table_is_reached_by(environment, settings, url):
    for name in ("AzureWebJobsStorage__queueServiceUri", "AzureWebJobsStorage__tableServiceUri"):
        environment.delenv(name, raising=False)
    use(environment, **settings)
    memory = (await wiring._parts()).keeper.memory
    assert memory._table._client.url.rstrip("/") == url


@pytest.mark.parametrize(
    ("limit", "wanted"), [("", [ANNA, BEN]), (BEN.upper(), [BEN]), ("33333333-3333-4333-8333-333333333333", [])]
)
async def test_a_pilot_is_limited_to_its_mailboxes(environment, limit, wanted):
    async def mailboxes(self: Resources) -> list[str]:
        return [ANNA, BEN]

    environment.setattr(Resources, "mailboxes", mailboxes)
    use(environment, MAILBOXES=limit)
    assert await (await wiring._parts()).keeper.wanted() == wanted


async def test_the_roster_waits_until_dataverse_takes_calls_again(environment):
    happened = []

    async def mailboxes(self: Resources) -> list[str]:
        happened.append("asked")
        return [ANNA]

    async def wait(self: Door) -> None:
        happened.append("waited")

    environment.setattr(Resources, "mailboxes", mailboxes)
    environment.setattr(Door, "wait_for_dataverse", wait)
    assert await (await wiring._parts()).keeper.wanted() == [ANNA]
    assert happened == ["waited", "asked"]


async def test_a_change_is_let_in_by_what_its_own_calls_are_told(environment):
    parts = await wiring._parts()
    environment.setattr("sync.calls.pauses.HELD", 0.0)
    for pauses, what in ((parts.looked_at.to_graph.pauses, ANNA), ((await wiring.dataverse()).pauses, DATAVERSE)):
        with pytest.raises(Throttled), pauses.kept(what):
            raise Throttled("429", 30.0)
        with pytest.raises(Throttled, match="left alone"):
            await wiring._let_in(ANNA)


async def test_storage_without_tables_is_misconfigured(environment):
    endpoint = "QueueEndpoint=https://contoso.queue.core.windows.net/;SharedAccessSignature=sv=1&sig=x"
    use(environment, AzureWebJobsStorage=endpoint)
    with pytest.raises(Misconfigured, match="AzureWebJobsStorage"):
        await wiring._parts()


async def test_while_it_only_observes_it_can_write_nothing_but_what_a_person_customizes(environment):
    use(environment, SYNC_MODE="observe")
    parts = await wiring._parts()
    assert parts.processor.mode is SyncMode.OBSERVE
    for bookings in (parts.processor.bookings, parts.looked_at.bookings, parts.sweeper.bookings):
        with pytest.raises(NotWritten, match="SYNC_MODE"):
            await bookings.write(LinkBooking(ANNA, 'W/"1"', "E1"))
    assert (await wiring.dataverse())._may_write
