"""The table from (status, code) to what happens next, row by row."""

from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.calls.answers import Service, check, parse_retry_after
from sync.errors import (
    AccessDenied,
    Duplicate,
    Full,
    InvalidId,
    LifetimeRefused,
    MailboxUnavailable,
    Malformed,
    Misconfigured,
    NoAnswer,
    NotFound,
    NotPermitted,
    Refused,
    ShutOut,
    Stale,
    SyncError,
    Throttled,
    Transient,
    UnknownColumn,
    Unvalidated,
    Withdrawn,
)
from tests.world.fakes import NOW


def body(code: str | None, message: str = "The text of the service.") -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


HTML = b"<html><body><h1>Bad Gateway</h1></body></html>"


def raised(service: Service, status: int, content: bytes, headers: dict[str, str] | None = None) -> SyncError:
    with pytest.raises(SyncError) as info:
        check(service, status, headers or {}, content, NOW)
    return info.value


EVENTS = [
    pytest.param(404, "ErrorItemNotFound", NotFound, id="an item that is not in the store is gone"),
    pytest.param(404, "MailboxNotEnabledForRESTAPI", MailboxUnavailable, id="an inactive mailbox has lost no event"),
    pytest.param(404, "ResourceNotFound", MailboxUnavailable, id="a user who is not found has lost no event"),
    pytest.param(404, "ErrorInvalidUser", MailboxUnavailable, id="a user without licence has lost no event"),
    pytest.param(404, "SomethingNew", Refused, id="no other 404 says that an event is gone"),
    pytest.param(404, "", Refused, id="a 404 without code does not say that an event is gone"),
    pytest.param(404, "erroritemnotfound", Refused, id="codes are compared as they are"),
    pytest.param(400, "ErrorInvalidIdMalformed", InvalidId, id="a damaged id belongs to no item"),
    pytest.param(400, "ErrorOccurrenceCrossingBoundary", Refused, id="any other bad request stays one"),
    pytest.param(400, "ErrorItemNotFound", Refused, id="a code means something with its status only"),
    pytest.param(401, "InvalidAuthenticationToken", Transient, id="a token may just have ended"),
    pytest.param(403, "ErrorAccessDenied", AccessDenied, id="a mailbox beyond the policy is out of reach"),
    pytest.param(403, "ErrorCannotDeleteObject", Withdrawn, id="an item neither readable nor deletable is withdrawn"),
    pytest.param(403, "", Refused, id="any other 403 is for a person"),
    pytest.param(410, "syncStateNotFound", Refused, id="an old delta token is refused"),
    pytest.param(412, "ErrorIrresolvableConflict", Refused, id="a conflict in Outlook is not a changed row"),
    pytest.param(429, "ApplicationThrottled", Throttled, id="a throttled mailbox is left alone"),
    pytest.param(429, "TooManyRequests", Throttled, id="a throttled app holds back"),
    pytest.param(500, "ErrorInternalServerError", Transient, id="a server's error passes"),
    pytest.param(503, "ErrorMailboxMoveInProgress", Transient, id="a moving mailbox arrives"),
    pytest.param(503, "UnknownError", Transient, id="an unknown error passes"),
    pytest.param(504, "", Transient, id="a gateway's time-out passes"),
]

SUBSCRIPTIONS = [
    pytest.param(400, "ValidationError", Unvalidated, id="a handshake that failed is the trouble of all"),
    pytest.param(400, "InvalidRequest", Refused, id="a request that cannot be read is no failed handshake"),
    pytest.param(400, "ExtensionError", Refused, id="an expiration too far ahead is refused"),
    pytest.param(401, "InvalidAuthenticationToken", Transient, id="a token may just have ended"),
    pytest.param(403, "ExtensionError", MailboxUnavailable, id="a forbidden mailbox is out of reach"),
    pytest.param(404, "ExtensionError", MailboxUnavailable, id="a mailbox that Exchange does not know is out of reach"),
    pytest.param(404, "ResourceNotFound", NotFound, id="an unknown or expired subscription is gone"),
    pytest.param(404, "", NotFound, id="a subscription is gone whatever the code"),
    pytest.param(409, "ObjectIdentifierInUse", Duplicate, id="a subscription that exists already is a duplicate"),
    pytest.param(409, "", Duplicate, id="a duplicate is one whatever the code"),
    pytest.param(429, "TooManyRequests", Throttled, id="too many subscriptions at once make all of them wait"),
    pytest.param(503, "ExtensionError", Transient, id="stale mailbox information gets fresh"),
]

BOOKINGS = [
    pytest.param(404, "0x80040217", NotFound, id="a row that does not exist is not there"),
    pytest.param(404, "", NotFound, id="a row is not there if the code is empty as in older articles"),
    pytest.param(404, "0x80060888", Refused, id="an unknown table is no missing row"),
    pytest.param(412, "0x80060882", Stale, id="a row of another version was changed"),
    pytest.param(412, "", Stale, id="a row was changed if the code is empty as in older articles"),
    pytest.param(412, "0x80040237", Refused, id="a record that exists already is not a changed row"),
    pytest.param(412, "0x80060892", Refused, id="a violated key is not a changed row"),
    pytest.param(412, "0x80040333", Refused, id="a duplicate rule is not a changed row"),
    pytest.param(400, "0x80060883", Refused, id="a version not provided is ours to mend"),
    pytest.param(400, "0x8006088D", Refused, id="a table without optimistic concurrency is a person's to mend"),
    pytest.param(400, "0x80060888", UnknownColumn, id="a property that is not found is an unknown column"),
    pytest.param(400, "0x80048d19", Refused, id="a payload of wrong types is refused"),
    pytest.param(400, "0x80040203", Refused, id="an invalid argument is refused"),
    pytest.param(400, "0x80048408", Refused, id="a status that does not fit its state is refused"),
    pytest.param(400, "0x80040265", Refused, id="a plug-in's refusal is a refusal"),
    pytest.param(401, "", Transient, id="a token may just have ended"),
    pytest.param(403, "0x80040220", NotPermitted, id="a missing privilege is a person's to give"),
    pytest.param(403, "0x80072560", ShutOut, id="an app that is no user is a person's to add"),
    pytest.param(403, "0x80095ffe", ShutOut, id="an IP firewall shuts the whole app out"),
    pytest.param(405, "", Refused, id="a method that is not allowed is refused"),
    pytest.param(413, "", Refused, id="a payload too large is refused"),
    pytest.param(429, "0x80072322", Throttled, id="too many requests can wait"),
    pytest.param(429, "0x80072321", Throttled, id="too much execution time can wait"),
    pytest.param(429, "0x80072326", Throttled, id="too many requests at a time can wait"),
    pytest.param(408, "", NoAnswer, id="a write that timed out may still be done"),
    pytest.param(502, "", NoAnswer, id="a write whose answer a gateway lost may still be done"),
    pytest.param(504, "", NoAnswer, id="a write that a gateway did not wait for may still be done"),
    pytest.param(500, "0x80044151", Transient, id="an SQL time-out passes"),
    pytest.param(503, "0x80044151", Transient, id="an SQL time-out passes with any status of the hundreds"),
]


@pytest.mark.parametrize(("status", "code", "error"), EVENTS)
def test_of_events(status, code, error):
    assert type(raised("graph", status, body(code))) is error


@pytest.mark.parametrize(("status", "code", "error"), SUBSCRIPTIONS)
def test_of_subscriptions(status, code, error):
    assert type(raised("subscriptions", status, body(code))) is error


@pytest.mark.parametrize(("status", "code", "error"), BOOKINGS)
def test_of_bookings(status, code, error):
    assert type(raised("dataverse", status, body(code))) is error


def test_a_lifetime_that_is_refused_tells_what_is_allowed():
    text = "Subscription expiration can only be 10070 minutes in the future."
    error = raised("subscriptions", 400, body("ExtensionError", text))
    assert isinstance(error, LifetimeRefused)
    assert error.minutes == 10_070


@pytest.mark.parametrize(
    "text",
    [
        "PATCH and reauthorize are less than 10 minutes apart.",
        "The 'expirationDateTime' is not a date-time.",
        'Expiration is wrong", "other": "10 minutes',
    ],
)
def test_other_minutes_are_no_lifetime(text):
    assert type(raised("subscriptions", 400, body("BadRequest", text))) is Refused


@pytest.mark.parametrize("code", ["ValidationError", "InvalidRequest"])
def test_a_handshake_that_timed_out_is_told_by_its_text_and_names_the_cure(code):
    error = raised("subscriptions", 400, body(code, "Subscription validation request timed out."))
    assert type(error) is Unvalidated
    assert str(error).count("can Graph reach NOTIFICATION_URL") == 1


def test_a_duplicate_tells_of_what():
    held = "7F105C7D-2DC5-4530-97CD-4E7AE6534C07"
    text = f"Subscription Id {held} already exists for the requested combination"
    error = raised("subscriptions", 409, body("ObjectIdentifierInUse", text))
    assert isinstance(error, Duplicate)
    assert error.subscription_id == held.lower()
    assert held not in str(error)
    silent = raised("subscriptions", 409, body("ObjectIdentifierInUse", "It is there already."))
    assert isinstance(silent, Duplicate)
    assert silent.subscription_id is None


SERVICES: list[Service] = ["graph", "subscriptions", "dataverse"]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_success_raises_nothing(service, status):
    check(service, status, {}, body("ErrorItemNotFound"), NOW)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [301, 302, 304, 307, 308])
def test_a_redirection_is_no_success(service, status):
    """Nobody follows it, so whatever was asked for has not happened."""
    error = raised(service, status, b"", {"Location": "https://elsewhere.example/?token=secret"})
    assert type(error) is ShutOut
    assert error.is_undone
    assert "secret" not in str(error)


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [401, 408, 429, 500, 501, 502, 503, 504, 509, 599])
@pytest.mark.parametrize("content", [b"", HTML, body("")], ids=["no body", "HTML", "an empty code"])
def test_a_gateways_error_passes(service, status, content):
    error = raised(service, status, content)
    is_lost = service == "dataverse" and status in (408, 502, 504)
    assert type(error) is (Throttled if status == 429 else NoAnswer if is_lost else Transient)


@pytest.mark.parametrize("content", [b"", HTML, b"{}", b'{"error": null}'], ids=["no body", "HTML", "{}", "null"])
def test_a_404_in_which_no_service_speaks_passes(content):
    """A gateway in front of an environment that is down knows nothing of its rows, and of nothing for ever."""
    assert type(raised("graph", 404, content)) is Transient
    assert type(raised("dataverse", 404, content)) is Transient


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b"7",
        b'"error"',
        b'{"error": "text"}',
        b'{"error": []}',
        b'{"error": {"code": 7}}',
        b'{"error": {"code": {}}}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 100_000,
    ],
    ids=lambda content: repr(content[:30]),
)
def test_an_error_of_any_body_is_an_error(service, content):
    assert type(raised(service, 400, content)) is Refused


def test_only_what_may_be_tried_again_is_transient():
    assert issubclass(Stale, Transient)
    for error in (Refused, Malformed, Misconfigured, NotFound, Duplicate, InvalidId, MailboxUnavailable, Withdrawn):
        assert not issubclass(error, Transient)


# What the text tells.

SECRETS = "Board meeting of anna@contoso.example"


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 429, 503])
def test_the_text_repeats_no_message_of_the_service(service, status):
    inner = {"message": SECRETS, "date": "2026-03-02T06:00:00", "request-id": SECRETS}
    content = {"error": {"code": "SomeCode", "message": SECRETS, "innerError": inner, "innererror": inner}}
    headers = {"Retry-After": "7", "request-id": "r-1", "Location": SECRETS, "x-ms-ags-diagnostic": SECRETS}
    assert str(raised(service, status, json.dumps(content).encode(), headers)) == f"{service} {status} SomeCode r-1"


def test_the_text_of_an_html_answer_is_the_status():
    assert str(raised("dataverse", 502, HTML)) == "dataverse 502"


@pytest.mark.parametrize(
    ("headers", "tail"),
    [
        ({"request-id": "0c2d4ac4-9f2e-4b5a-9d3c-0e3b4a5f6a7b"}, " 0c2d4ac4-9f2e-4b5a-9d3c-0e3b4a5f6a7b"),
        ({"x-ms-service-request-id": "0c2d4ac4"}, " 0c2d4ac4"),
        ({"request-id": "<script>\n\ttoken=1"}, " scripttoken1"),
        ({"request-id": "a" * 1000}, " " + "a" * 36),
    ],
    ids=["Graph's", "Dataverse's", "an odd one, cleaned", "an endless one, cut"],
)
def test_the_text_ends_with_the_request_id(headers, tail):
    assert str(raised("graph", 404, body("ErrorItemNotFound"), headers)) == f"graph 404 ErrorItemNotFound{tail}"


def test_a_code_is_cleaned_and_cut():
    text = str(raised("graph", 400, body("Some\nCode " + "x" * 1000)))
    assert text == "graph 400 SomeCode" + "x" * 56


@pytest.mark.parametrize(
    ("service", "status", "code", "cure"),
    [
        ("dataverse", 403, "0x80072560", "application user"),
        ("dataverse", 403, "0x80040220", "privilege"),
        ("dataverse", 400, "0x80060888", "EVENT_ID_COLUMN"),
        ("dataverse", 400, "0x8006088d", "optimistic concurrency"),
        ("dataverse", 400, "0x8006088D", "optimistic concurrency"),
        ("graph", 403, "ErrorAccessDenied", "access policy"),
        ("graph", 401, "InvalidAuthenticationToken", "identity"),
    ],
)
def test_what_a_person_can_mend_comes_with_its_cure(service, status, code, cure):
    assert cure in str(raised(service, status, body(code)))


def exchange(name: str, reason: str) -> bytes:
    return body("ExtensionError", f"Operation: Create; Exception: [Status Code: {name}; Reason: {reason}]")


SAID_BY_EXCHANGE = [
    pytest.param(403, "Access to OData is disabled.", MailboxUnavailable, "access policy", id="the policy"),
    pytest.param(403, "Maximum number of subscriptions has been reached", Full, "as many", id="a full mailbox"),
    pytest.param(429, "Resource 'SubscriptionCountReached' has reached", Full, "as many", id="a full one, by 429"),
    pytest.param(404, "REST API is not yet supported for this mailbox.", MailboxUnavailable, "unlicensed", id="none"),
    pytest.param(403, "Forbidden", MailboxUnavailable, "access policy, with Calendars.Read, or", id="another 403"),
    pytest.param(404, "NotFound", MailboxUnavailable, "Exchange Online", id="another 404"),
    pytest.param(503, "Mailbox info is stale.", Transient, "", id="no cure for what passes"),
]


@pytest.mark.parametrize(("status", "reason", "error", "cure"), SAID_BY_EXCHANGE)
def test_what_exchange_says_of_a_mailbox_is_told_in_words_of_ours(status, reason, error, cure):
    found = raised("subscriptions", status, exchange("X", reason + " SECRET of user@contoso.example"))
    assert type(found) is error
    assert cure in str(found)
    assert "SECRET" not in str(found)
    assert "@" not in str(found)
    assert reason not in str(found)


def test_a_429_that_says_nothing_of_a_full_mailbox_is_throttling_without_a_cure():
    assert str(raised("subscriptions", 429, body("TooManyRequests"))) == "subscriptions 429 TooManyRequests"


# How long to wait.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param("7", 7.0, id="whole seconds"),
        pytest.param("2.128", 2.128, id="fractions of seconds, as Graph documents them"),
        pytest.param("0", 0.0, id="no wait at all"),
        pytest.param(" 7 ", 7.0, id="blanks around"),
        pytest.param("-3", 0.0, id="a time that is over"),
        pytest.param("Mon, 02 Mar 2026 06:00:30 GMT", 30.0, id="a date"),
        pytest.param("Monday, 02-Mar-26 06:00:30 GMT", 30.0, id="a date in the spelling of RFC 850"),
        pytest.param("Mon, 02 Mar 2026 05:59:00 GMT", 0.0, id="a date that is over"),
        pytest.param(None, None, id="nothing"),
        pytest.param("", None, id="an empty value"),
        pytest.param("soon", None, id="a word"),
        pytest.param("nan", None, id="not a number"),
        pytest.param("inf", None, id="for ever"),
        pytest.param("-inf", None, id="since ever"),
        pytest.param("1e999", None, id="a number beyond all"),
        pytest.param("7, 7", None, id="two values"),
        pytest.param("Mon, 99 Mar 2026 06:00:30 GMT", None, id="a day that does not exist"),
        pytest.param("Mon, 02 Mar 2026 06:00:30", None, id="a date without zone"),
        pytest.param(f"Mon, {'9' * 30} Mar 2026 06:00:30 GMT", None, id="a day beyond all"),
        pytest.param(f"Mon, 02 Mar 2026 06:00:30 +{'9' * 20}", None, id="a zone beyond all"),
    ],
)
def test_retry_after_may_be(value, seconds):
    assert parse_retry_after(value, NOW) == seconds


@given(st.integers(-100_000, 100_000))
def test_a_date_is_waited_for_and_not_longer(seconds):
    moment = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert parse_retry_after(moment, NOW) == max(0, seconds)


@given(st.text() | st.from_regex(r"\w{3}, \d+ (Jan|Feb|Dec) \d+ \d+:\d+:\d+ ([+-]\d+|GMT)", fullmatch=True))
def test_whatever_retry_after_holds_it_is_a_time_or_none(value):
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("service", "status", "content"),
    [("graph", 429, body("TooManyRequests")), ("dataverse", 503, HTML), ("dataverse", 412, body("0x80060882"))],
)
@pytest.mark.parametrize(("headers", "seconds"), [({"Retry-After": "7"}, 7.0), ({}, None)])
def test_a_transient_error_carries_the_services_word(service, status, content, headers, seconds):
    error = raised(service, status, content, headers)
    assert isinstance(error, Transient)
    assert error.retry_after == seconds
