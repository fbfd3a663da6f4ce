"""What could not be processed comes back later, or waits in the poison queue with its reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import Malformed, Misconfigured, Refused, Stale, Transient
from sync.messages.parking import PARKS, park, put_back, wait_seconds
from tests.world.fakes import QueuesInMemory

DAY = 86_400
WEEK = 7 * DAY
"""How long a message may be hidden. Source: Azure Storage, "Put Message"."""

LARGEST = 48 * 1024
"""Bytes of a message before base64. Source: Azure Storage, "Put Message": 64 KiB."""


async def test_a_parked_message_keeps_its_text_and_the_reason():
    queues = QueuesInMemory()
    await park(queues, "outlook-changes", '{"mailbox": "m"}', Refused("dataverse 403 0x80040220"))
    [(queue, message, hidden)] = queues.sent
    assert (queue, hidden) == ("outlook-changes-poison", 0)
    assert json.loads(message) == {
        "queue": "outlook-changes",
        "error": "Refused",
        "reason": "dataverse 403 0x80040220",
        "message": '{"mailbox": "m"}',
    }


@pytest.mark.parametrize(
    "character", ["x", '"', "\\", "\n", "\x00", "é", "€", "\ufffd", "😀"], ids=lambda character: ascii(character)
)
async def test_a_parked_message_fits_in_one_whatever_it_holds(character):
    queues = QueuesInMemory()
    await park(queues, "subscription-lifecycle", character * LARGEST, Malformed("x" * 500))
    [(_, message, _)] = queues.sent
    assert len(message.encode()) <= LARGEST


async def test_a_message_that_cannot_be_parked_is_left_to_the_host():
    with pytest.raises(Transient):
        await park(QueuesInMemory(refuses=True), "outlook-changes", "{}", Refused("403"))


async def test_a_message_put_back_is_hidden_for_as_long_as_the_service_asks():
    queues = QueuesInMemory()
    await put_back(queues, "outlook-changes", "{}", 1, Transient("429", retry_after=300))
    [(queue, message, hidden)] = queues.sent
    assert (queue, message) == ("outlook-changes", "{}")
    assert 300 <= hidden <= 360


@pytest.mark.parametrize("error", [Transient("503"), Stale("412"), Misconfigured("no token")], ids=repr)
async def test_a_message_put_back_waits_a_moment_if_nothing_was_asked(error):
    queues = QueuesInMemory()
    await put_back(queues, "outlook-changes", "{}", 1, error)
    [(_, _, hidden)] = queues.sent
    assert 15 <= hidden <= 18


async def test_a_message_is_put_back_for_about_a_day_and_then_parked():
    queues = QueuesInMemory()
    for attempt in range(1, PARKS + 2):
        await put_back(queues, "outlook-changes", "{}", attempt, Transient("503"))
    assert len(queues.of("outlook-changes")) == PARKS
    [parked] = queues.of("outlook-changes-poison")
    assert json.loads(parked)["reason"] == "503"
    assert 0.75 * DAY < sum(hidden for _, _, hidden in queues.sent) < 1.5 * DAY


async def test_a_message_that_cannot_be_put_back_is_left_to_the_host():
    with pytest.raises(Transient):
        await put_back(QueuesInMemory(refuses=True), "outlook-changes", "{}", 1, Transient("503"))


@pytest.mark.parametrize(
    ("attempt", "retry_after", "seconds"),
    [
        pytest.param(0, None, 15, id="15 seconds if it was no attempt"),
        pytest.param(1, None, 15, id="15 seconds at first"),
        pytest.param(2, None, 30, id="twice as long the next time"),
        pytest.param(8, None, 1920, id="half an hour by and by"),
        pytest.param(9, None, 3600, id="an hour at most"),
        pytest.param(PARKS, None, 3600, id="an hour to the end"),
        pytest.param(10**6, None, 3600, id="an hour however often"),
        pytest.param(1, 0.0, 15, id="no less for a service that asks for nothing"),
        pytest.param(1, 2.128, 15, id="no less for a service that asks for less"),
        pytest.param(1, 40.0, 40, id="what the service asks for"),
        pytest.param(9, 40.0, 3600, id="patience where the service asks for less"),
        pytest.param(1, 1e12, DAY, id="a day at most"),
    ],
)
def test_the_wait_is(attempt, retry_after, seconds):
    assert wait_seconds(attempt, retry_after, 0.0) == seconds
    assert seconds < wait_seconds(attempt, retry_after, 0.999) < 1.2 * seconds


def test_what_the_service_asks_for_is_spread_by_no_more_than_our_own_patience():
    assert 600 < wait_seconds(1, 600.0, 0.999) <= 603


@given(st.integers(1, 1000), st.none() | st.floats(0, allow_infinity=False), st.floats(0, 1, exclude_max=True))
def test_no_wait_is_longer_than_a_message_can_be_hidden(attempt, retry_after, chance):
    assert 15 <= wait_seconds(attempt, retry_after, chance) < WEEK


async def test_a_herd_is_spread():
    queues = QueuesInMemory()
    for _ in range(20):
        await put_back(queues, "outlook-changes", "{}", 1, Transient("503"))
    assert len({hidden for _, _, hidden in queues.sent}) > 10
