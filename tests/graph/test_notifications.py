"""What Graph posts, and what anybody else might post instead; the clientState; the queue messages both ways."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.errors import Forged, Malformed
from sync.graph.client_state import build_client_state, parse_client_state
from sync.graph.notifications import MAX_BODY, parse_notifications
from sync.messages.changes import Batch, Change, Evidence, LifecycleNotification, Received, SweepRequest
from sync.messages.codec import (
    build_batch_messages,
    build_change_message,
    build_lifecycle_message,
    build_sweep_message,
    parse_change_message,
    parse_changes,
    parse_lifecycle_message,
    parse_sweep_message,
)
from tests.world.fakes import evidence_of
from tests.world.notifications import (
    ANNA,
    BEN,
    EVENT,
    FORGERS,
    GONE,
    KEY,
    OTHER_EVENT,
    PREVIOUS,
    SUBSCRIPTION,
    TENANT,
    change,
    lifecycle,
)


def post(*items: Any, keys: tuple[str, ...] = (KEY,)) -> Received:
    return parse_notifications(json.dumps({"value": items}).encode(), keys)


# What Graph posts.


@pytest.mark.parametrize(
    ("change_type", "deleted"),
    [("created", False), ("updated", False), ("deleted", True), ("Created", False), ("Deleted", True)],
)
def test_a_change_tells_the_mailbox_the_event_and_whether_it_may_be_deleted(change_type, deleted):
    received = post(change(changeType=change_type))
    assert received.changes == [Change(ANNA, EVENT, evidence_of(deleted))]
    assert not received.dropped


@pytest.mark.parametrize(
    "resource",
    [
        pytest.param(f"Users/{ANNA}/Events/{EVENT}", id="as basic notifications write it"),
        pytest.param(f"Users('{ANNA}')/events('{EVENT}')", id="as rich notifications write it"),
        pytest.param(f"users/{ANNA}/events/{EVENT}", id="in lower case"),
        pytest.param(f"USERS('{ANNA}')/EVENTS('{EVENT}')", id="in upper case"),
        pytest.param(f"/Users/{ANNA}/Events/{EVENT}", id="with a leading slash"),
        pytest.param(f"/users('{ANNA}')/events('{EVENT}')", id="in key syntax with a leading slash"),
        pytest.param(f"Users/{ANNA.upper()}/Events/{EVENT}", id="with the user's id in upper case"),
        pytest.param(f"Users/{ANNA}@{TENANT}/Events/{EVENT}", id="with the tenant behind the user"),
        pytest.param(f"Users/{ANNA}%40{TENANT}/Events/{EVENT}", id="with the tenant behind a percent-encoded at sign"),
        pytest.param(f"Users('{ANNA}@{TENANT}')/events('{EVENT}')", id="with the tenant in key syntax"),
        pytest.param(f"Users/anna%40contoso.example/Events/{EVENT}", id="with a percent-encoded address as user"),
        pytest.param(f"Users/o%27neill%40contoso.example/Events/{EVENT}", id="with an apostrophe in the address"),
        pytest.param(f"Users/{ANNA}/Events/{EVENT.replace('=', '%3D')}", id="with a percent-encoded event id"),
    ],
)
@pytest.mark.parametrize("resource_data", [{"id": EVENT}, {}, None, GONE], ids=["id", "no id", "null", "nothing"])
def test_the_resource_may_be_written(resource, resource_data):
    received = post(change(resource=resource, resourceData=resource_data))
    assert received.changes == [Change(ANNA, EVENT)]


def test_the_event_id_keeps_its_case():
    assert [found.event_id for found in post(change(), change(event=OTHER_EVENT)).changes] == [EVENT, OTHER_EVENT]


def test_the_event_id_is_taken_from_the_resource_data_before_the_path():
    received = post(change(resource=f"Users/{ANNA}/Events/{EVENT.lower()}"))
    assert received.changes == [Change(ANNA, EVENT)]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"id": GONE}, id="no id"),
        pytest.param({"tenantId": GONE}, id="no tenant id"),
        pytest.param({"tenantId": None, "id": None}, id="null where an id may be missing"),
        pytest.param({"subscriptionId": GONE}, id="no subscription id"),
        pytest.param({"lifecycleEvent": None}, id="null as lifecycle event"),
        pytest.param({"resourceData": {"id": EVENT}}, id="no etag"),
        pytest.param({"color": "blue", "nested": {"any": ["thing"]}}, id="unknown fields"),
        pytest.param({"encryptedContent": {"data": "AAAA"}}, id="encrypted content, which nobody ordered"),
        pytest.param({"subscriptionExpirationDateTime": GONE}, id="no expiration"),
        pytest.param({"subscriptionExpirationDateTime": "2026-03-09T06:00:00Z"}, id="a time without fractions"),
        pytest.param({"subscriptionExpirationDateTime": "2026-03-08T22:00:00.1-08:00"}, id="another offset"),
        pytest.param({"subscriptionExpirationDateTime": "0001-01-01T00:00:00"}, id="the service's smallest time"),
        pytest.param({"subscriptionExpirationDateTime": "tomorrow"}, id="no time at all"),
        pytest.param({"subscriptionExpirationDateTime": 1772000000}, id="a number as time"),
    ],
)
def test_a_change_is_received_with(fields):
    assert post(change(**fields)).changes == [Change(ANNA, EVENT)]


def test_unknown_fields_of_the_collection_are_ignored():
    body = {"validationTokens": ["token"], "value": [change()], "@odata.context": "…"}
    assert parse_notifications(json.dumps(body).encode(), (KEY,)).changes == [Change(ANNA, EVENT)]


def test_an_empty_collection_holds_nothing():
    assert post() == Received()


def test_one_post_may_hold_changes_of_several_mailboxes():
    received = post(change(ANNA), change(BEN, OTHER_EVENT, changeType="deleted"))
    assert received.changes == [Change(ANNA, EVENT), Change(BEN, OTHER_EVENT, evidence=Evidence.TOLD)]


def test_one_post_may_hold_changes_and_lifecycle_notifications():
    received = post(lifecycle(BEN, "subscriptionRemoved"), change(ANNA), lifecycle(ANNA))
    assert received.changes == [Change(ANNA, EVENT)]
    assert received.lifecycle == [
        LifecycleNotification(BEN, SUBSCRIPTION, "subscriptionRemoved"),
        LifecycleNotification(ANNA, SUBSCRIPTION, "missed"),
    ]


@pytest.mark.parametrize("word", ["reauthorizationRequired", "subscriptionRemoved", "missed", "oneThatIsNewNextYear"])
def test_a_lifecycle_notification_tells_the_mailbox_from_the_client_state_alone(word):
    received = post(lifecycle(BEN, word, tenantId=GONE, subscriptionId=SUBSCRIPTION.upper()))
    assert received.lifecycle == [LifecycleNotification(BEN, SUBSCRIPTION, word)]


def test_a_lifecycle_notification_with_a_change_type_stays_one():
    received = post(lifecycle() | {"changeType": "updated", "resource": f"Users/{ANNA}/Events/{EVENT}"})
    assert not received.changes
    assert len(received.lifecycle) == 1


# Repeats.


@pytest.mark.parametrize(
    ("change_types", "deleted"),
    [
        ("created updated updated", False),
        ("updated deleted", True),
        ("deleted updated", True),
        ("updated deleted created", True),
    ],
)
def test_changes_of_one_event_collapse_and_keep_the_hint_of_a_deletion(change_types, deleted):
    received = post(*(change(changeType=change_type) for change_type in change_types.split()))
    assert received.changes == [Change(ANNA, EVENT, evidence_of(deleted))]


@pytest.mark.parametrize(
    ("others", "version"),
    [
        pytest.param([change()], 'W/"DwAAABYAAAA="', id="the same again"),
        pytest.param([change(changeType="deleted")], None, id="a deletion, of which the first one tells nothing"),
        pytest.param([change(resourceData={"id": EVENT, "@odata.etag": 'W/"2"'})], None, id="another version"),
        pytest.param([change(resourceData={"id": EVENT})], None, id="one without a version"),
    ],
)
def test_no_version_stands_for_all_when_a_change_is_posted_with(others, version):
    assert [each.version for each in post(change(), *others).changes] == [version]


def test_changes_collapse_however_their_paths_are_written():
    received = post(
        change(), change(resource=f"/users('{ANNA}')/events('{EVENT}')"), change(id=GONE, resourceData=GONE)
    )
    assert received.changes == [Change(ANNA, EVENT)]


def test_the_same_event_id_in_two_mailboxes_is_two_changes():
    assert post(change(ANNA), change(BEN)).changes == [Change(ANNA, EVENT), Change(BEN, EVENT)]


def test_repeated_lifecycle_notifications_collapse():
    assert len(post(lifecycle(), lifecycle(), lifecycle(word="reauthorizationRequired")).lifecycle) == 2


# What anybody else might post.

DEEP = 100_000


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"hello", id="text"),
        pytest.param(b"<html><body>", id="HTML"),
        pytest.param(b'{"value": [', id="half a collection"),
        pytest.param(b"\xff\xfe\x00", id="half a character"),
        pytest.param(b'{"value": "\xff"}', id="bytes that are no UTF-8"),
        pytest.param(b"null", id="null"),
        pytest.param(b"7", id="a number"),
        pytest.param(b"9" * 100_000, id="a number of too many digits"),
        pytest.param(b'"value"', id="a string"),
        pytest.param(b"[]", id="an empty array"),
        pytest.param(json.dumps([change()]).encode(), id="an array of items"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(json.dumps(change()).encode(), id="an item alone"),
        pytest.param(b'{"Value": []}', id="another spelling of value"),
        pytest.param(b'{"value": null}', id="null as value"),
        pytest.param(b'{"value": {}}', id="an object as value"),
        pytest.param(b'{"value": "abc"}', id="a string as value"),
        pytest.param(b"[" * DEEP + b"]" * DEEP, id="deeply nested arrays"),
        pytest.param(b'{"value":' * DEEP + b"1" + b"}" * DEEP, id="deeply nested objects"),
        pytest.param(b'{"value": [' + b"[" * DEEP + b"]" * DEEP + b"]}", id="a deeply nested item"),
    ],
)
def test_a_body_is_no_collection_if_it_is(body):
    with pytest.raises(Malformed):
        parse_notifications(body, (KEY,))


def test_a_body_of_ten_megabytes_is_refused_unread():
    padding = " " * (10 * 1024 * 1024)
    with pytest.raises(Malformed, match="bytes"):
        parse_notifications(json.dumps({"value": [change()], "padding": padding}).encode(), (KEY,))


@pytest.mark.parametrize(
    "item", [b"{}", b"[]", b"1", b'{"changeType":"x"}'], ids=["empty objects", "lists", "numbers", "small objects"]
)
def test_a_body_of_more_items_than_graph_sends_is_refused_before_it_is_parsed(item):
    body = b'{"value": [' + (item + b",") * (MAX_BODY // (len(item) + 1) - 10) + item + b"]}"
    with pytest.raises(Malformed, match="more items"):
        parse_notifications(body, (KEY,))


def test_as_many_notifications_as_fit_are_read():
    many = [change(event=f"{EVENT}{number}") for number in range(3_000)]
    body = json.dumps({"value": many}).encode()
    assert MAX_BODY // 2 < len(body) <= MAX_BODY
    assert len(parse_notifications(body, (KEY,)).changes) == 3_000


def test_the_largest_body_is_still_read():
    body = json.dumps({"value": [change()], "padding": ""})
    body = body.replace('"padding": ""', f'"padding": "{" " * (MAX_BODY - len(body))}"')
    assert len(body) == MAX_BODY
    assert parse_notifications(body.encode(), (KEY,)).changes == [Change(ANNA, EVENT)]


FORGED = "clientState missing or not ours"
BAD_ITEMS = [
    pytest.param(None, "an item that is no object", id="null"),
    pytest.param(7, "an item that is no object", id="a number"),
    pytest.param("updated", "an item that is no object", id="a string"),
    pytest.param([change()], "an item that is no object", id="an array"),
    pytest.param({}, FORGED, id="an empty object"),
    pytest.param(change(clientState=GONE), FORGED, id="no clientState"),
    pytest.param(change(clientState=None), FORGED, id="null as clientState"),
    pytest.param(change(clientState=""), FORGED, id="an empty clientState"),
    pytest.param(change(clientState=7), FORGED, id="a number as clientState"),
    pytest.param(change(clientState=[build_client_state(KEY, ANNA)]), FORGED, id="a clientState in an array"),
    pytest.param(change(clientState="secretClientValue"), FORGED, id="somebody else's clientState"),
    pytest.param(change(clientState=ANNA), FORGED, id="a mailbox as clientState"),
    pytest.param(change(clientState=f"{ANNA}."), FORGED, id="a clientState without its hash"),
    pytest.param(change(clientState=build_client_state(FORGERS, ANNA)), FORGED, id="a clientState of another key"),
    pytest.param(change(clientState=build_client_state(KEY, ANNA) + "A"), FORGED, id="a clientState with a tail"),
    pytest.param(change(clientState=build_client_state(KEY, ANNA) + "\n"), FORGED, id="a clientState with a line end"),
    pytest.param(
        change(clientState=ANNA + build_client_state(KEY, ANNA)[36:].upper()), FORGED, id="a clientState in upper case"
    ),
    pytest.param(change(clientState=f"{ANNA}.\ud800é"), FORGED, id="a clientState of odd characters"),
    pytest.param(
        change(clientState=BEN + build_client_state(KEY, ANNA)[36:]),
        FORGED,
        id="a clientState moved to another mailbox",
    ),
    pytest.param(
        change(resource=f"Users/{BEN}/Events/{EVENT}"), "clientState of another mailbox", id="another user's path"
    ),
    pytest.param(
        change(resource=f"users('{BEN}@{TENANT}')/events('{EVENT}')"),
        "clientState of another mailbox",
        id="another user's path in another spelling",
    ),
    pytest.param(
        change(resource=f"Users/{BEN.replace('-', '%2D')}/Events/{EVENT}"),
        "clientState of another mailbox",
        id="another user's path, percent-encoded",
    ),
    pytest.param(lifecycle(clientState=GONE), FORGED, id="a lifecycle notification without clientState"),
    pytest.param(
        lifecycle(clientState=build_client_state(FORGERS, ANNA)), FORGED, id="a lifecycle notification of another key"
    ),
    pytest.param(lifecycle(lifecycleEvent=7), "lifecycleEvent", id="a number as lifecycle event"),
    pytest.param(lifecycle(lifecycleEvent={}), "lifecycleEvent", id="an object as lifecycle event"),
    pytest.param(lifecycle(lifecycleEvent=""), "lifecycleEvent", id="an empty lifecycle event"),
    pytest.param(
        lifecycle(lifecycleEvent="missed\nall is well"), "lifecycleEvent", id="a lifecycle event of two lines"
    ),
    pytest.param(lifecycle(lifecycleEvent="x" * 65), "lifecycleEvent", id="an endless lifecycle event"),
    pytest.param(lifecycle(subscriptionId=GONE), "subscriptionId", id="a lifecycle notification of no subscription"),
    pytest.param(lifecycle(subscriptionId="../me"), "subscriptionId", id="a path as subscription id"),
    pytest.param(change(changeType=GONE), "changeType", id="no change type"),
    pytest.param(change(changeType=None), "changeType", id="null as change type"),
    pytest.param(change(changeType=["updated"]), "changeType", id="change types in an array"),
    pytest.param(change(changeType="exploded"), "changeType", id="an unknown change type"),
    pytest.param(change(changeType="created,updated"), "changeType", id="several change types"),
    pytest.param(change(resource=GONE), "resource", id="no resource"),
    pytest.param(change(resource={}), "resource", id="an object as resource"),
    pytest.param(change(resource=""), "resource", id="an empty resource"),
    pytest.param(change(resource="me/events"), "resource", id="a resource without user"),
    pytest.param(change(resource=f"Users/{ANNA}/Messages/{EVENT}"), "resource", id="a message"),
    pytest.param(change(resource=f"Users/{ANNA}/Events/"), "resource", id="a resource without event"),
    pytest.param(change(resource=f"Groups/{ANNA}/Events/{EVENT}"), "resource", id="an event of a group"),
    pytest.param(
        change(resource=f"https://graph.microsoft.com/v1.0/Users/{ANNA}/Events/{EVENT}"), "resource", id="a whole URL"
    ),
    pytest.param(change(resource=f"tenants/{TENANT}/Users/{ANNA}/Events/{EVENT}"), "resource", id="a tenant's path"),
    pytest.param(change(resource=f"Users/../Users/{ANNA}/Events/{EVENT}"), "resource", id="a path with a step up"),
    pytest.param(change(resource=f"Users/{ANNA}/../{BEN}/Events/{EVENT}"), "resource", id="a step to another user"),
    pytest.param(change(resourceData={"id": 7}), "event id", id="a number as event id"),
    pytest.param(change(resourceData={"id": [EVENT]}), "event id", id="an event id in an array"),
    pytest.param(change(resourceData={"id": ""}), "event id", id="an empty event id"),
    pytest.param(
        change(resource=f"Users/{ANNA}/Events/7", resourceData={"id": 7}), "event id", id="one in the path as well"
    ),
    pytest.param(change(event="A" * 1025), "event id", id="an endless event id"),
    pytest.param(change(event="x' or 'a' eq 'a"), "event id", id="an event id with quotes"),
    pytest.param(change(event='x"'), "event id", id="an event id with a double quote"),
    pytest.param(change(event="../../me"), "event id", id="an event id with steps up"),
    pytest.param(change(event="x%2F..%2Fme"), "event id", id="an event id with percent signs"),
    pytest.param(change(event="x?$select=subject"), "event id", id="an event id with a query"),
    pytest.param(change(event="x\\y"), "event id", id="an event id with a backslash"),
    pytest.param(change(event="x\n"), "event id", id="an event id with a line end"),
    pytest.param(change(event="x\u0000"), "event id", id="an event id with a zero"),
    pytest.param(change(event="ｘ１"), "event id", id="an event id beyond ASCII"),
    pytest.param(
        change(resource=f"Users/{ANNA}/Events/x%27%29", resourceData=GONE),
        "event id",
        id="an event id with percent-encoded quotes in the path",
    ),
    pytest.param(
        change(resource=f"Users/{ANNA}/Events/x%2F..%2F..%2Fme", resourceData=GONE),
        "event id",
        id="percent-encoded steps in the path",
    ),
]


@pytest.mark.parametrize(("item", "reason"), BAD_ITEMS)
def test_good_neighbours_survive_and_dropped_is(item, reason):
    received = post(change(BEN), item, lifecycle(BEN), item, change(BEN, OTHER_EVENT))
    assert received.changes == [Change(BEN, EVENT), Change(BEN, OTHER_EVENT)]
    assert received.lifecycle == [LifecycleNotification(BEN, SUBSCRIPTION, "missed")]
    assert received.dropped == {reason: 2}


def test_no_reason_for_dropping_an_item_repeats_what_the_item_holds():
    reasons = {str(parameters.values[1]) for parameters in BAD_ITEMS}
    received = post(*(parameters.values[0] for parameters in BAD_ITEMS))
    assert set(received.dropped) == reasons
    assert received.dropped.total() == len(BAD_ITEMS)
    for secret in (ANNA, BEN, EVENT, KEY, build_client_state(KEY, ANNA)[37:]):
        assert not any(secret in reason for reason in reasons)


def test_a_tenant_in_an_item_gives_it_no_rights():
    received = post(change(tenantId=TENANT.replace("7", "6"), clientState=build_client_state(FORGERS, ANNA)))
    assert not received.changes


# The clientState.


def test_a_client_state_leads_back_to_its_mailbox():
    assert parse_client_state(build_client_state(KEY, ANNA), (KEY,)) == ANNA


def test_a_client_state_fits_graph_and_holds_nothing_of_the_key():
    state = build_client_state(KEY, ANNA)
    assert len(state) <= 128
    assert state.isascii()
    assert state.isprintable()
    assert not any(KEY[start : start + 4] in state for start in range(len(KEY) - 3))


def test_each_mailbox_and_each_key_has_a_client_state_of_its_own():
    states = {build_client_state(key, mailbox)[36:] for key in (KEY, PREVIOUS) for mailbox in (ANNA, BEN)}
    assert len(states) == 4


def test_keys_that_differ_late_have_client_states_of_their_own():
    """However long they are: the hash takes 64 bytes of a key."""
    assert build_client_state(64 * "k" + "1", ANNA) != build_client_state(64 * "k" + "2", ANNA)


ROTATION = [(OTHER_EVENT, PREVIOUS), (EVENT, KEY)]


def test_the_previous_key_stays_valid_while_keys_are_rotated():
    old, new = (change(event=event, clientState=build_client_state(key, ANNA)) for event, key in ROTATION)
    assert [found.event_id for found in post(old, new, keys=(KEY, PREVIOUS)).changes] == [OTHER_EVENT, EVENT]


def test_the_previous_key_is_forged_once_it_is_taken_out():
    old, new = (change(event=event, clientState=build_client_state(key, ANNA)) for event, key in ROTATION)
    received = post(old, new)
    assert [found.event_id for found in received.changes] == [EVENT]
    assert received.dropped == {FORGED: 1}


@pytest.mark.parametrize(
    "forged", [f"{ANNA}.", f"{ANNA}.{'ä' * 43}", ANNA[:-1], ANNA + build_client_state(KEY, BEN)[36:]]
)
def test_who_saw_a_good_one_before_takes_no_forged_one_of_the_same_mailbox(forged):
    received = post(change(), change(clientState=forged, resourceData={"id": OTHER_EVENT}))
    assert [each.event_id for each in received.changes] == [EVENT]
    assert received.dropped == {FORGED: 1}


def test_without_a_key_everything_is_forged():
    assert post(change(), keys=()).dropped == {FORGED: 1}


@given(st.one_of(st.text(), st.none(), st.integers(), st.text().map(lambda text: f"{ANNA}.{text}")))
def test_no_made_up_client_state_is_ours(value):
    with pytest.raises(Forged):
        parse_client_state(value, (KEY, PREVIOUS))


# The queue messages.

CHANGES = [Change(ANNA, EVENT), Change(ANNA, EVENT, evidence=Evidence.TOLD), Change(BEN, OTHER_EVENT, attempt=3)]
SWEEPS = [SweepRequest(ANNA), SweepRequest(BEN, 2)]
LIFECYCLE = [LifecycleNotification(ANNA, SUBSCRIPTION, "missed"), LifecycleNotification(BEN, SUBSCRIPTION, "new", 2)]


@pytest.mark.parametrize("value", CHANGES, ids=repr)
def test_a_change_comes_out_of_the_queue_as_it_went_in(value):
    assert parse_change_message(build_change_message(value)) == value


def test_a_batch_comes_out_of_the_queue_as_it_went_in():
    [message] = build_batch_messages(CHANGES)
    assert parse_changes(message) == Batch(tuple(CHANGES))
    assert [parse_changes(build_change_message(each)) for each in CHANGES] == CHANGES
    assert build_batch_messages([]) == []


def test_one_unreadable_change_of_a_batch_does_not_stand_in_the_others_way():
    [message] = build_batch_messages(CHANGES)
    odd = ["no object", {"mailbox": ANNA, "event": "it's"}, {"event": EVENT}]
    mixed = json.dumps({"changes": [*odd[:2], *json.loads(message)["changes"], odd[2]]})
    assert parse_changes(mixed) == Batch(tuple(CHANGES), unreadable=tuple(map(json.dumps, odd)))


def test_a_post_of_many_long_ids_takes_several_messages():
    changes = [Change(ANNA, "A" * 1_000 + str(number)) for number in range(200)]
    messages = build_batch_messages(changes)
    assert [change for message in messages for change in parse_changes(message).changes] == changes
    assert len(messages) > 4
    assert max(len(base64.b64encode(message.encode())) for message in messages) <= 64 * 1024


@given(st.lists(st.integers(1, 1_024), min_size=1, max_size=200))
def test_a_post_of_any_size_fits_into_the_queue(lengths):
    changes = [Change(ANNA, "A" * length) for length in lengths]
    messages = build_batch_messages(changes)
    assert [change for message in messages for change in parse_changes(message).changes] == changes
    assert max(len(base64.b64encode(message.encode())) for message in messages) <= 64 * 1024
    assert len(messages) <= 1 + sum(map(len, messages)) // 40_000


@pytest.mark.parametrize("text", ['{"changes": null}', '{"changes": {}}', '{"changes": 7}', '{"changes": "x"}'])
def test_a_batch_is_malformed_if_it_is(text):
    with pytest.raises(Malformed):
        parse_changes(text)


@pytest.mark.parametrize("value", LIFECYCLE, ids=repr)
def test_a_lifecycle_notification_comes_out_of_the_queue_as_it_went_in(value):
    assert parse_lifecycle_message(build_lifecycle_message(value)) == value


@pytest.mark.parametrize("value", SWEEPS, ids=repr)
def test_a_request_for_a_sweep_comes_out_of_the_queue_as_it_went_in(value):
    assert parse_sweep_message(build_sweep_message(value)) == value


# Source: Azure Functions, queue trigger, message metadata; the host compares the names without case.
METADATA = {"id", "dequeuecount", "expirationtime", "insertiontime", "nextvisibletime", "popreceipt", "queuetrigger"}


@pytest.mark.parametrize(
    "text",
    [
        *map(build_change_message, CHANGES),
        *build_batch_messages(CHANGES),
        *map(build_lifecycle_message, LIFECYCLE),
        *map(build_sweep_message, SWEEPS),
    ],
    ids=lambda text: text,
)
def test_no_property_of_a_message_overwrites_the_triggers_metadata(text):
    assert not {name.lower() for name in json.loads(text)} & METADATA


def test_a_message_holds_ids_and_nothing_else():
    planted = {"subject": "Board meeting", "bodyPreview": "layoffs", "organizer": "anna@contoso.example"}
    item = change(**planted) | {"resourceData": {"id": EVENT, **planted}}
    [found] = post(item).changes
    assert json.loads(build_change_message(found)) == {"mailbox": ANNA, "event": EVENT}


def test_a_message_of_an_earlier_version_may_lack_the_hint_and_the_attempt():
    assert parse_change_message(json.dumps({"mailbox": ANNA.upper(), "event": EVENT})) == Change(ANNA, EVENT)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("hello", id="text"),
        pytest.param("[]", id="an array"),
        pytest.param("null", id="null"),
        pytest.param("{}", id="an empty object"),
        pytest.param("[" * DEEP, id="deeply nested"),
        pytest.param("9" * 10_000, id="a number of too many digits"),
        pytest.param(build_lifecycle_message(LIFECYCLE[0]), id="of the other queue"),
        pytest.param(json.dumps({"event": EVENT}), id="without mailbox"),
        pytest.param(json.dumps({"mailbox": ANNA}), id="without event"),
        pytest.param(json.dumps({"mailbox": "anna@contoso.example", "event": EVENT}), id="with an address as mailbox"),
        pytest.param(json.dumps({"mailbox": f"{ANNA}/..", "event": EVENT}), id="with a path as mailbox"),
        pytest.param(json.dumps({"mailbox": ANNA, "event": "../../me"}), id="with a path as event"),
        pytest.param(json.dumps({"mailbox": ANNA, "event": 7}), id="with a number as event"),
        pytest.param(json.dumps({"mailbox": ANNA, "event": EVENT, "evidence": "no"}), id="with other evidence"),
        pytest.param(json.dumps({"mailbox": ANNA, "event": EVENT, "evidence": None}), id="with null as evidence"),
        pytest.param(json.dumps({"mailbox": ANNA, "event": EVENT, "attempt": -1}), id="with a negative attempt"),
        pytest.param(json.dumps({"mailbox": ANNA, "event": EVENT, "attempt": True}), id="with a truth as attempt"),
        pytest.param(json.dumps({"mailbox": ANNA, "event": EVENT, "attempt": 1.5}), id="with half an attempt"),
        pytest.param(json.dumps({"mailbox": ANNA, "event": EVENT, "attempt": "1"}), id="with text as attempt"),
    ],
)
def test_a_change_message_is_malformed_if_it_is(text):
    with pytest.raises(Malformed):
        parse_change_message(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("hello", id="text"),
        pytest.param("[1]", id="an array"),
        pytest.param(build_change_message(CHANGES[0]), id="of the other queue"),
        pytest.param(
            json.dumps({"mailbox": ANNA, "subscription": "me", "lifecycle": "missed"}), id="with a word as subscription"
        ),
        pytest.param(
            json.dumps({"mailbox": ANNA, "subscription": SUBSCRIPTION, "lifecycle": "a b"}), id="with two words"
        ),
        pytest.param(
            json.dumps({"mailbox": ANNA, "subscription": SUBSCRIPTION, "lifecycle": "missed", "attempt": []}),
            id="with an array as attempt",
        ),
    ],
)
def test_a_lifecycle_message_is_malformed_if_it_is(text):
    with pytest.raises(Malformed):
        parse_lifecycle_message(text)


# Whatever there is.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [*change(), "lifecycleEvent"]


@st.composite
def almost_good(draw: st.DrawFn) -> dict[str, Any]:
    """An item of Anna's with fields replaced by whatever JSON there is, or taken away."""
    item = draw(st.sampled_from([change(), lifecycle()]))
    return item | draw(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=4))


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_malformed(body):
    try:
        received = parse_notifications(body, (KEY,))
    except Malformed:
        return
    assert not received.changes
    assert not received.lifecycle


@given(st.lists(JSON | almost_good(), max_size=6), st.lists(JSON | almost_good(), max_size=6))
def test_whatever_surrounds_a_good_item_it_is_received(before, after):
    received = post(*before, change(BEN), *after, lifecycle(BEN))
    assert Change(BEN, EVENT) in received.changes
    assert LifecycleNotification(BEN, SUBSCRIPTION, "missed") in received.lifecycle
    for found in received.changes:
        assert found.mailbox in (ANNA, BEN)  # nobody else's clientState is there
        assert parse_change_message(build_change_message(found)) == found
    for followed in received.lifecycle:
        assert parse_lifecycle_message(build_lifecycle_message(followed)) == followed


@given(st.text() | JSON.map(json.dumps))
def test_any_message_is_read_or_malformed(text):
    for parse in (parse_change_message, parse_changes, parse_lifecycle_message):
        with pytest.raises(Malformed):
            parse(text)
