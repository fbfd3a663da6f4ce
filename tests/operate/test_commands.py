"""The operators' commands as they are typed, against the simulated services and real storage."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.storage.queue.aio import QueueClient

from sandbox.graph import errors as graph_errors
from sandbox.world.people import Technician
from sync.messages.changes import Change, Evidence, LifecycleNotification, SweepRequest
from sync.messages.codec import (
    LIFECYCLE,
    OUTLOOK_CHANGES,
    SWEEPS,
    build_change_message,
    build_lifecycle_message,
    build_sweep_message,
)
from sync.storage.roster import TABLE, RosterTable
from sync.storage.tables import StorageTable
from sync.subscriptions.deployment import LIFETIME
from sync.subscriptions.outages import LastRun
from tests.world.operator import CODE, HOUR, KEY, MAILBOX, TOMORROW, Operator

# --- subscriptions ---


async def test_each_mailbox_is_listed_with_the_state_of_its_subscription(operator: Operator, ana: Technician) -> None:
    ben = operator.sandbox.people.hire("Ben")
    operator.sandbox.faults.order(graph_errors.ACCESS_DENIED.fault(method="POST", path="subscriptions"))
    assert (await operator.types("subscriptions apply")).exit_code == 1
    document = await operator.reads("subscriptions")
    rows = {row["state"]: row for row in document["subscriptions"]}
    assert document["wanted"] == 2
    assert document["counts"] == {"waiting": 1, "kept": 1}
    assert {rows["waiting"]["mailbox"], rows["kept"]["mailbox"]} == {ana.mailbox.id, ben.mailbox.id}
    assert "ErrorAccessDenied" in rows["waiting"]["reason"]
    assert datetime.fromisoformat(rows["waiting"]["next_try"]) > datetime.now(UTC)
    [subscription] = operator.sandbox.subscriptions
    assert rows["kept"]["subscription"] == subscription.id
    assert abs(datetime.fromisoformat(rows["kept"]["expires"]) - datetime.now(UTC) - LIFETIME) < timedelta(minutes=1)
    assert abs(rows["kept"]["expires_in"] - LIFETIME.total_seconds()) < 60


async def test_the_table_says_the_same_as_the_document(operator: Operator, ana: Technician) -> None:
    await operator.types("subscriptions apply")
    result = await operator.types("subscriptions")
    [row] = [line for line in result.stdout.splitlines() if line.startswith(ana.mailbox.id)]
    [subscription] = operator.sandbox.subscriptions
    assert "kept" in row
    assert f"{subscription.expiration:%Y-%m-%d %H:%M}" in row
    assert "6 d 22 h" in row
    assert result.stdout.splitlines()[-1] == "mailboxes wanted: 1; kept: 1"
    assert "\x1b" not in result.stdout, "no colours in a file"


async def test_a_plan_changes_nothing(operator: Operator, ana: Technician) -> None:
    document = await operator.reads("subscriptions plan")
    [row] = document["subscriptions"]
    assert (row["mailbox"], row["state"]) == (ana.mailbox.id, "to be created")
    assert (document["counts"], document["refusal"]) == ({"to be created": 1}, None)
    assert operator.writes() == 0
    assert operator.queued(SWEEPS) == []


async def test_applying_reports_what_was_done(operator: Operator, ana: Technician) -> None:
    nothing = {"adopted": 0, "replaced": 0, "renewed": 0, "deleted": 0, "failed": [], "left": 0, "queued_sweeps": 0}
    done = {"wanted": 1, **nothing, "refusal": None}
    assert await operator.reads("subscriptions apply") == {**done, "created": 1}
    assert await operator.reads("subscriptions apply") == {**done, "created": 0}
    assert (await operator.reads("subscriptions plan"))["subscriptions"] == []


async def test_applying_shows_why_a_mailbox_failed(operator: Operator, ana: Technician) -> None:
    operator.sandbox.faults.order(graph_errors.ACCESS_DENIED.fault(method="POST", path="subscriptions"))
    result = await operator.types("subscriptions apply")
    assert result.exit_code == 1
    assert f"failed: {ana.mailbox.id}: subscriptions 403 ErrorAccessDenied" in result.stdout


async def test_applying_after_an_outage_has_all_mailboxes_swept(operator: Operator, ana: Technician) -> None:
    """The next run of the timer would not notice, this one has been run."""
    table = StorageTable.of_connection_string(operator.storage, TABLE)
    await RosterTable(table).ran(LastRun(datetime.now(UTC) - timedelta(days=1), LIFETIME))
    await table.close()
    assert (await operator.reads("subscriptions apply"))["queued_sweeps"] == 1
    assert operator.queued(SWEEPS) == [{"sweep": ana.mailbox.id, "after_gap": True}]


async def test_many_leavers_take_a_word(operator: Operator) -> None:
    technicians = [operator.sandbox.people.hire(name) for name in ("Ana", "Ben", "Cleo")]
    await operator.types("subscriptions apply")
    operator.environment.set(MAILBOXES=technicians[0].mailbox.id)
    plan = await operator.reads("subscriptions plan")
    assert "2 of 3 mailboxes" in plan["refusal"]
    assert {row["state"] for row in plan["subscriptions"]} == {"held back"}
    refused = await operator.types("subscriptions apply")
    assert refused.exit_code == 2
    assert refused.stdout.startswith("mailboxes wanted: 1; created: 0")
    assert "2 of 3 mailboxes" in refused.stderr
    as_json = await operator.types("subscriptions apply --json")
    assert as_json.exit_code == 2
    assert "2 of 3 mailboxes" in json.loads(as_json.stdout)["refusal"]
    assert "--leavers" in refused.stderr
    assert len(list(operator.sandbox.subscriptions)) == 3
    assert (await operator.reads("subscriptions apply --leavers"))["deleted"] == 2
    assert len(list(operator.sandbox.subscriptions)) == 1


async def test_another_key_than_the_apps_replaces_nothing_without_a_word(operator: Operator, ana: Technician) -> None:
    await operator.types("subscriptions apply")
    [made] = operator.sandbox.subscriptions
    operator.environment.set(CLIENT_STATE_KEY=KEY[::-1])
    plan = await operator.reads("subscriptions plan")
    assert plan["other_key"] == "1 of 1 subscriptions at this NOTIFICATION_URL have another CLIENT_STATE_KEY"
    assert "refused without --new-key: 1 of 1" in (await operator.types("subscriptions plan")).stdout
    refused = await operator.types("subscriptions apply")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "fetch-app-settings" in refused.stderr
    assert "--new-key" in refused.stderr
    assert list(operator.sandbox.subscriptions) == [made]
    assert (await operator.reads("subscriptions apply --new-key"))["replaced"] == 1
    assert (await operator.reads("subscriptions plan"))["other_key"] is None


async def test_no_output_holds_a_secret(operator: Operator, ana: Technician) -> None:
    old = os.environ["NOTIFICATION_URL"]
    await operator.types("subscriptions apply")
    secrets = [KEY, CODE, *(each.client_state or "" for each in operator.sandbox.subscriptions)]
    operator.environment.set(NOTIFICATION_URL=old.replace(CODE, "the-other-key"))
    operator.environment.set(CLIENT_STATE_KEY=KEY[::-1])
    results = [
        await operator.types(command)
        for command in (
            "subscriptions --json",
            "subscriptions -v",
            "subscriptions plan",
            "subscriptions apply --new-key -v",
        )
    ]
    results.append(await operator.types("subscriptions apply --new-key -v"))
    [row] = json.loads(results[0].stdout)["subscriptions"]
    assert row["reason"] == "another function key, another clientState key"
    assert "?code=***&booking-sync=" in row["notification_url"]
    for result in results:
        assert result.exit_code == 0
        for secret in [*secrets, KEY[::-1], "the-other-key"]:
            assert secret not in result.output


# --- sweep ---


async def test_one_mailbox_is_compared_and_its_differences_queued(operator: Operator, ana: Technician) -> None:
    _, event = operator.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    document = await operator.reads(f"sweep --mailbox {ana.mailbox.id}")
    [difference] = document["differences"]
    assert (difference["mailbox"], difference["event"]) == (ana.mailbox.id, event.immutable_id)
    assert difference["reason"] == "its booking is not linked to it"
    assert document["queued"] is True
    [message] = operator.queued(OUTLOOK_CHANGES)
    assert message["event"] == event.immutable_id
    assert operator.writes() == 0


@pytest.mark.parametrize("which", ["one", "all"])
async def test_a_dry_run_shows_differences_and_queues_nothing(operator: Operator, ana: Technician, which: str) -> None:
    operator.sandbox.people.hire("Ben")
    _, later = operator.sandbox.people.dispatcher.book(ana, TOMORROW + HOUR, TOMORROW + 2 * HOUR)
    _, sooner = operator.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    options = f"--mailbox {ana.mailbox.id}" if which == "one" else ""
    document = await operator.reads(f"sweep --dry-run {options}")
    assert [each["event"] for each in document["differences"]] == [sooner.immutable_id, later.immutable_id]
    assert document["mailboxes"] == (1 if which == "one" else 2)
    assert document["queued"] is False
    assert operator.queued(OUTLOOK_CHANGES) + operator.queued(SWEEPS) == []
    assert operator.writes() == 0


@pytest.mark.parametrize("options", ["", " --dry-run"])
@pytest.mark.parametrize("out_of_scope", ["not in MAILBOXES", "disabled", "unknown"])
async def test_a_mailbox_that_the_app_does_not_look_after_is_not_swept(
    operator: Operator, ana: Technician, out_of_scope: str, options: str
) -> None:
    mailbox = MAILBOX if out_of_scope == "unknown" else ana.mailbox.id
    if out_of_scope == "not in MAILBOXES":
        operator.environment.set(MAILBOXES=operator.sandbox.people.hire("Ben").mailbox.id)
    if out_of_scope == "disabled":
        operator.sandbox.tables.update(ana.user, {"isdisabled": True})
    operator.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    result = await operator.types(f"sweep --mailbox {mailbox}{options}")
    assert result.exit_code == 2
    assert f"{mailbox} is no active user among the bookable resources, or not in MAILBOXES" in result.stderr
    assert operator.queued(OUTLOOK_CHANGES) == []


async def test_what_is_held_is_not_said_to_be_queued(operator: Operator, ana: Technician) -> None:
    dispatcher = operator.sandbox.people.dispatcher
    dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    booking, event = dispatcher.book(ana, TOMORROW + HOUR, TOMORROW + 2 * HOUR)
    operator.sandbox.tables.link(booking, event.immutable_id)
    ana.delete(event)
    result = await operator.types(f"sweep --mailbox {ana.mailbox.id}")
    assert "differences: 1, queued; held: 1" in result.stdout
    assert len(operator.queued(OUTLOOK_CHANGES)) == 1


async def test_a_mailbox_that_cannot_be_compared_does_not_hold_up_the_others(
    operator: Operator, ana: Technician
) -> None:
    ben = operator.sandbox.people.hire("Ben")
    operator.sandbox.people.dispatcher.book(ana, TOMORROW, TOMORROW + HOUR)
    operator.sandbox.faults.order(graph_errors.ACCESS_DENIED.fault(service="graph", path=ben.mailbox.id, times=None))
    result = await operator.types("sweep --dry-run --json")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [each["mailbox"] for each in document["differences"]] == [ana.mailbox.id]
    assert [each["mailbox"] for each in document["failed"]] == [ben.mailbox.id]
    assert document["mailboxes"] == 1, "what failed was not compared"
    line = (await operator.types("sweep --dry-run")).stdout.splitlines()[-2]
    assert line == "mailboxes compared: 1, failed: 1; differences: 1, not queued"


async def test_without_a_mailbox_the_sweeps_of_all_are_queued(operator: Operator, ana: Technician) -> None:
    assert await operator.reads("sweep") == {"queued_sweeps": 1}
    assert operator.queued(SWEEPS) == [{"sweep": ana.mailbox.id}]


# --- poison queues ---


async def test_parked_messages_are_listed_with_their_reasons_and_stay(operator: Operator) -> None:
    await operator.parked(
        OUTLOOK_CHANGES, build_change_message(Change(MAILBOX, "AAMk=", attempt=31)), "no JSON\x1b[31m"
    )
    await operator.parked(LIFECYCLE, build_lifecycle_message(LifecycleNotification(MAILBOX, MAILBOX, "missed")))
    await operator.parked(SWEEPS, build_sweep_message(SweepRequest(MAILBOX)))
    for _ in range(2):
        rows = (await operator.reads("poison"))["messages"]
        assert {(row["queue"], row["mailbox"], row["event"], row["can_be_replayed"]) for row in rows} == {
            (OUTLOOK_CHANGES, MAILBOX, "AAMk=", True),
            (OUTLOOK_CHANGES, None, None, False),
            (LIFECYCLE, MAILBOX, "missed", True),
            (SWEEPS, MAILBOX, None, True),
        }
        assert {row["reason"].partition(" (")[0] for row in rows} == {"Misconfigured: DATAVERSE_URL names nobody"}
        assert all(datetime.fromisoformat(row["at"]) <= datetime.now(UTC) for row in rows)
    only = (await operator.reads(f"poison --queue {LIFECYCLE}"))["messages"]
    assert [row["queue"] for row in only] == [LIFECYCLE]
    table = (await operator.types("poison")).stdout
    assert table.splitlines()[-1] == "messages parked: 4"
    assert "\x1b" not in table


async def test_replaying_puts_a_message_back_with_its_tries_counted_anew(operator: Operator) -> None:
    await operator.parked(
        OUTLOOK_CHANGES,
        *(build_change_message(Change(MAILBOX, id, Evidence.TOLD, attempt=31)) for id in ("one", "two")),
    )
    ids = {row["event"]: row["id"] for row in (await operator.reads("poison"))["messages"]}
    document = await operator.reads(f"replay {ids['one'].upper()}")
    assert [row["event"] for row in document["replayed"]] == ["one"]
    assert operator.queued(OUTLOOK_CHANGES) == [{"mailbox": MAILBOX, "event": "one", "evidence": "told"}]
    [left] = (await operator.reads("poison"))["messages"]
    assert left["event"] == "two"


async def test_all_are_replayed_but_malformed_ones_which_stay(operator: Operator) -> None:
    await operator.parked(
        OUTLOOK_CHANGES, "no JSON", *(build_change_message(Change(MAILBOX, f"e{n}")) for n in range(40))
    )
    await operator.parked(LIFECYCLE, build_lifecycle_message(LifecycleNotification(MAILBOX, MAILBOX, "missed")))
    result = await operator.types("replay --all")
    assert result.exit_code == 1, "a person has to look at the malformed one"
    assert result.stdout.splitlines()[0] == "messages replayed: 41"
    assert "refused" in result.stdout.splitlines()[1]
    assert sorted(message["event"] for message in operator.queued(OUTLOOK_CHANGES)) == sorted(
        f"e{n}" for n in range(40)
    )
    [left] = (await operator.reads("poison"))["messages"]
    assert left["can_be_replayed"] is False


async def test_what_is_not_there_is_said(operator: Operator) -> None:
    result = await operator.types(f"replay {MAILBOX} --json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"replayed": [], "refused": [], "missing": [MAILBOX]}


async def test_a_crash_while_replaying_repeats_and_never_loses(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operator.parked(OUTLOOK_CHANGES, build_change_message(Change(MAILBOX, "one")))

    async def crash(*arguments: Any, **options: Any) -> None:
        raise SystemExit(99)

    with monkeypatch.context() as patched:
        patched.setattr(QueueClient, "delete_message", crash)
        assert (await operator.types("replay --all")).exit_code == 99
    assert (operator.count(OUTLOOK_CHANGES), operator.count(f"{OUTLOOK_CHANGES}-poison")) == (1, 1)
    with monkeypatch.context() as patched:
        patched.setattr(QueueClient, "send_message", crash)
        assert (await operator.types("replay --all")).exit_code == 99
    assert (operator.count(OUTLOOK_CHANGES), operator.count(f"{OUTLOOK_CHANGES}-poison")) == (1, 1)
    await operator.reads("replay --all")
    assert (operator.count(OUTLOOK_CHANGES), operator.count(f"{OUTLOOK_CHANGES}-poison")) == (2, 0)


async def test_poison_queues_need_no_settings_of_the_services(operator: Operator) -> None:
    """They are looked at when those are wrong."""
    operator.environment.unset("DATAVERSE_URL")
    assert await operator.reads("poison") == {"messages": []}


# --- how it does ---


async def test_the_status_is_that_of_the_page(operator: Operator, ana: Technician) -> None:
    assert (await operator.types("status")).exit_code == 0, "before the first run there is nothing wrong"
    ben = operator.sandbox.people.hire("Ben")
    operator.sandbox.faults.order(graph_errors.ACCESS_DENIED.fault(method="POST", path="subscriptions"))
    await operator.types("subscriptions apply")
    writes = operator.writes()
    result = await operator.types("status")
    assert result.exit_code == 1
    assert "mailboxes wanted: 2; subscribed: 1" in result.stdout
    assert "trouble: Mailboxes that are not subscribed: 1" in result.stdout
    assert "ErrorAccessDenied" in result.stdout
    document = json.loads((await operator.types("status --json")).stdout)
    assert {row["mailbox"] for row in document["mailboxes"]["rows"]} == {ana.mailbox.id, ben.mailbox.id}
    assert operator.writes() == writes
