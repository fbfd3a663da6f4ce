"""The mixed day: what benchmarks and tests replay, and what an oracle spends on it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from benchmarks.day import APART, HOURS, ORACLE, YOUNG, Calls, Change, Day, Kind, Save, mixed_day, oracle


@pytest.fixture(scope="module")
def day() -> Day:
    return mixed_day(seed=1)


def of_one_event(day: Day) -> list[list[Change]]:
    events: dict[int, list[Change]] = {}
    for change in day.changes:
        events.setdefault(change.event, []).append(change)
    return list(events.values())


def test_the_same_seed_gives_the_same_day_and_another_one_another(day):
    assert mixed_day(seed=1) == day
    assert mixed_day(seed=2) != day


def test_four_changes_of_five_are_of_ordinary_meetings(day):
    ordinary = [change for change in day.changes if "ordinary" in change.kind.value]
    assert len(day.changes) == 2_000
    assert 0.77 < len(ordinary) / 2_000 < 0.83
    assert 150 < len({change.mailbox for change in day.changes}) <= day.mailboxes == 200


def test_steps_are_in_the_order_of_time(day):
    assert [step.at for step in day.steps] == sorted(step.at for step in day.steps)


def test_an_event_is_created_first_changed_then_and_never_after_it_is_deleted(day):
    first = {Kind.LINKED, Kind.MEETING_FIRST}
    last = {Kind.DELETED, Kind.MEETING_DELETED}
    for changes in of_one_event(day):
        kinds = [change.kind for change in changes]
        assert kinds[0] in first
        assert not first & {*kinds[1:]}
        assert not last & {*kinds[:-1]}
        assert len({change.mailbox for change in changes}) == 1


def test_some_meetings_are_edited_again_and_again(day):
    assert max(len(changes) for changes in of_one_event(day)) > 8


def test_what_is_notified_of_a_change_comes_before_the_events_next_change(day):
    for changes in of_one_event(day):
        assert all(later.at - earlier.at >= APART for earlier, later in pairwise(changes))
    at = {change.number: change.at for change in day.changes}
    for notification in day.notifications:
        if not notification.is_redelivery:
            assert 0 < notification.at - at[notification.change] < APART


def test_a_change_is_notified_of_one_to_four_times_and_sometimes_again_hours_later(day):
    prompt: dict[int, int] = {}
    late = [each for each in day.notifications if each.is_redelivery]
    for each in day.notifications:
        prompt[each.change] = prompt.get(each.change, 0) + (not each.is_redelivery)
    assert {*prompt.values()} == {1, 2, 3, 4}
    assert len(prompt) == len(day.changes)
    assert 0.03 < len(late) / len(day.changes) < 0.07
    at = {change.number: change.at for change in day.changes}
    assert all(HOURS <= each.at - at[each.change] < 6 * HOURS for each in late)


def test_notifications_of_a_change_carry_the_same_etag_or_successive_ones_and_never_one_to_come(day):
    saves: dict[int, int] = {}
    several = same = 0
    for step in day.steps:
        match step:
            case Change(number=number):
                saves[number] = 0
            case Save(change=number):
                saves[number] += 1
            case _:
                assert step.save <= saves[step.change]
                several += saves[step.change] > 0
                same += saves[step.change] == 0
    assert min(several, same) > 500


def test_the_number_of_notifications_can_be_fixed():
    day = mixed_day(seed=3, changes=50, mailboxes=5, notifications=(3, 3), redelivered=0)
    assert len(day.notifications) == 150


def test_the_oracle_pays_for_changes_only(day):
    quiet, loud = (mixed_day(4, 200, notifications=(times, times)) for times in (1, 4))
    assert len(loud.notifications) > 3 * len(quiet.notifications)
    for kind, calls in oracle(loud.changes).items():
        assert calls == sum((ORACLE[kind] for change in loud.changes if change.kind is kind), Calls())


def test_a_meeting_is_known_as_none_of_ours_for_less_than_as_long_again_as_it_was_old_when_it_was_looked_at(day):
    """Until then our extension may still be added to it."""
    created: dict[int, float] = {}
    looked_at: dict[int, float] = {}
    for change in day.changes:
        created.setdefault(change.event, change.at)
        if change.kind is Kind.MEETING_AGAIN:
            looked_at[change.event] = change.at
        if change.kind is Kind.MEETING_KNOWN:
            seen = looked_at[change.event]
            assert seen - created[change.event] > YOUNG + APART
            assert change.at < seen + (seen - created[change.event])
    assert any(change.kind is Kind.MEETING_KNOWN for change in day.changes)


def test_the_oracle_reads_each_changed_event_once_and_writes_a_booking_once_for_each_change_it_follows():
    kinds = [Kind.MEETING_FIRST, *[Kind.MEETING_AGAIN] * 2, *[Kind.MEETING_KNOWN] * 3, Kind.MEETING_DELETED]
    assert sum(oracle([Change(0, 0, kind, 0, 0) for kind in kinds]).values(), Calls()) == Calls(graph=7)
    kinds = [Kind.LINKED, Kind.MOVED, Kind.ECHOED, Kind.DELETED]
    assert sum(oracle([Change(0, 0, kind, 0, 0) for kind in kinds]).values(), Calls()) == Calls(4, 4, 3)
