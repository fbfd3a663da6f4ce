"""Sends notifications to the webhook as Graph does: promptly, again if it must, and as unpleasantly as ordered.

Source: Graph, "Receive change notifications through webhooks" and "Reduce missing change notifications".
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import aiohttp
from yarl import URL

from sandbox.clock import Clock
from sandbox.graph.endpoints import WINDOW, Endpoints
from sandbox.graph.mailboxes import ChangeType, Mailboxes, Notice
from sandbox.graph.notification_bodies import (
    Hostility,
    Item,
    LifecycleEvent,
    disguise,
    forge,
    make_unknown,
    write_change,
    write_lifecycle,
)
from sandbox.graph.subscriptions import Subscription, Subscriptions

GIVE_UP = timedelta(hours=4).total_seconds()
FIRST_PAUSE = 10.0
"""Simulated seconds before the first retry, doubled for each further one; Graph says only "exponential backoff"."""
LOOK_AT_CLOCK = 0.02
"""Real seconds between two looks whether somebody moved the clock."""


@dataclass(frozen=True)
class Post:
    """One POST to a webhook as it went; ``status`` None is no answer in time."""

    url: str
    body: dict[str, Any]
    status: int | None
    attempt: int
    at: datetime


@dataclass(frozen=True)
class _Outgoing:
    subscription: Subscription
    item: Item
    url: str
    raised_at: datetime
    luck: random.Random
    """Decides what becomes of this one, so that the same seed gives the same items whatever the timing is."""

    @property
    def is_change(self) -> bool:
        return "lifecycleEvent" not in self.item


class Delivery:
    """Listens to *mailboxes* from ``start`` to ``stop``, in the event loop that called ``start``.

    *time_scale* is real seconds per simulated second of waiting; a wait also ends when the clock is moved past it.
    *answer_within* and *retry_within* are real seconds. Endpoints are put in slow and drop state only if
    *judges_endpoints*.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        subscriptions: Subscriptions,
        clock: Clock,
        rng: random.Random,
        hostility: Hostility | None = None,
        *,
        time_scale: float = 1.0,
        answer_within: float = 3.0,
        retry_within: float = 10.0,
        judges_endpoints: bool = False,
    ) -> None:
        self.hostility = hostility or Hostility()
        self.posts: list[Post] = []
        self.listeners: list[Callable[[Post], None]] = []
        self.endpoints = Endpoints(clock, answer_within, retry_within)
        self.judges_endpoints = judges_endpoints
        self.time_scale = time_scale
        self._mailboxes = mailboxes
        self._subscriptions = subscriptions
        self._clock = clock
        self._rng = random.Random(rng.getrandbits(64))
        self._mixer = random.Random(rng.getrandbits(64))  # its use depends on timing, nothing else may draw from it
        self._answer_within = answer_within
        self._retry_within = retry_within
        self._session: aiohttp.ClientSession
        self._tasks: set[asyncio.Task[None]] = set()
        self._outbox: defaultdict[str, list[_Outgoing]] = defaultdict(list)
        self._paused: list[_Outgoing] = []

    async def start(self) -> None:
        self._session = aiohttp.ClientSession()
        self._mailboxes.listeners.append(self._hear)
        self._subscriptions.authorized.append(self._resume)

    async def stop(self) -> None:
        """What is pending is forgotten."""
        self._mailboxes.listeners.remove(self._hear)
        self._subscriptions.authorized.remove(self._resume)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._outbox.clear()
        self._paused.clear()
        await self._session.close()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is pending, retries included; what is paused for want of authorization does not count."""
        return not self._tasks

    async def settle(self) -> None:
        """Wait until nothing is pending, retries included; what is paused for want of authorization stays so."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def send_lifecycle(self, subscription: Subscription, event: LifecycleEvent) -> None:
        """Tell the app of *event*, if it gave a URL for that; subscriptionRemoved also removes the subscription."""
        if event == "subscriptionRemoved":
            self._subscriptions.remove(subscription)
        url = subscription.lifecycle_notification_url
        if url is not None:
            item = write_lifecycle(subscription, event, self._mailboxes.tenant_id)
            self._dispatch(self._outgoing(subscription, item, url))

    # From a change to an item in the outbox.

    def _hear(self, notice: Notice) -> None:
        for subscription in self._subscriptions.of(notice.mailbox):
            for change_type in self._change_types(notice):
                if change_type in subscription.change_types:
                    self._raise_change(subscription, notice, change_type)

    def _change_types(self, notice: Notice) -> list[ChangeType]:
        if notice.change_type == "deleted":
            return ["deleted"]
        more: list[ChangeType] = ["updated"] * self._rng.randint(0, self.hostility.extra_updates)
        return [notice.change_type, *more]

    def _raise_change(self, subscription: Subscription, notice: Notice, change_type: ChangeType) -> None:
        item = write_change(subscription, notice, change_type, self._mailboxes.tenant_id, self._rng)
        url = subscription.notification_url
        if not self._subscriptions.is_authorized(subscription):
            self._paused.append(self._outgoing(subscription, item, url))
            return
        for _ in range(self._rng.randint(1, self.hostility.copies)):
            if self._rng.random() >= self.hostility.drop:
                self._dispatch(self._outgoing(subscription, item, url))

    def _outgoing(self, subscription: Subscription, item: Item, url: str) -> _Outgoing:
        luck = random.Random(self._rng.getrandbits(64))
        return _Outgoing(subscription, item, url, self._clock.now(), luck)

    def _resume(self, subscription: Subscription) -> None:
        """Its authorization is back; what was paused for longer than Graph retries is lost."""
        waiting = [each for each in self._paused if each.subscription is subscription]
        self._paused = [each for each in self._paused if each.subscription is not subscription]
        oldest = self._clock.now() - timedelta(seconds=GIVE_UP)
        for outgoing in waiting:
            if outgoing.raised_at >= oldest:
                self._dispatch(outgoing)
        if any(outgoing.raised_at < oldest for outgoing in waiting):
            self.send_lifecycle(subscription, "missed")

    def _dispatch(self, outgoing: _Outgoing) -> None:
        state = self.endpoints.state(_host(outgoing.url)) if self.judges_endpoints else "ok"
        delay = outgoing.luck.uniform(*self.hostility.delay)
        if state == "drop" and outgoing.is_change:
            self._start(self._confess([outgoing], WINDOW.total_seconds()))
        else:
            self._start(self._put(outgoing, delay + (WINDOW.total_seconds() if state == "slow" else 0.0)))

    async def _put(self, outgoing: _Outgoing, delay: float) -> None:
        await self._wait(delay)
        waiting = self._outbox[outgoing.url]
        waiting.append(outgoing)
        if len(waiting) == 1:
            self._start(self._flush(outgoing.url))

    # From the outbox to the webhook.

    async def _flush(self, url: str) -> None:
        """Everything for *url*, in parcels of one POST each."""
        await self._wait(self.hostility.gather)
        waiting = self._outbox.pop(url)
        if self.hostility.reorder:
            self._mixer.shuffle(waiting)
        size = self.hostility.batch
        for at in range(0, len(waiting), size):
            self._start(self._post(url, waiting[at : at + size]))

    async def _post(self, url: str, parcel: list[_Outgoing]) -> None:
        """Until it is answered with 2xx in time, or four hours are over."""
        items = self._pack(parcel)
        waited = 0.0
        for attempt in count():
            if await self._try(url, items, attempt):
                return
            pause = FIRST_PAUSE * 2**attempt
            age = max(waited, (self._clock.now() - parcel[0].raised_at).total_seconds())
            if age + pause > GIVE_UP:
                await self._confess(parcel)
                return
            await self._wait(pause)
            waited += pause
            if all(outgoing.is_change and outgoing.subscription not in self._subscriptions for outgoing in parcel):
                return  # nobody is subscribed any more

    async def _try(self, url: str, items: list[Item], attempt: int) -> bool:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        limit = self._retry_within if attempt else self._answer_within
        body = {"value": items}
        headers = {"Content-Type": "application/json; charset=utf-8"}
        try:
            async with self._session.post(
                URL(url, encoded=True),
                data=json.dumps(body).encode(),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=limit),
                allow_redirects=False,
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = None
        self.endpoints.record(_host(url), loop.time() - begun)
        post = Post(url, body, status, attempt, self._clock.now())
        self.posts.append(post)
        for listener in self.listeners:
            listener(post)
        return status is not None and 200 <= status < 300

    def _pack(self, parcel: list[_Outgoing]) -> list[Item]:
        """The items of one POST, with whatever else a hostile world puts beside them."""
        hostility, tenant_id = self.hostility, self._mailboxes.tenant_id
        items = []
        for outgoing in parcel:
            luck = outgoing.luck
            items.append(disguise(outgoing.item, outgoing.subscription, hostility, luck))
            if luck.random() < hostility.forged:
                items.append(forge(outgoing.item, luck))
            if luck.random() < hostility.unknown_items:
                items.append(make_unknown(outgoing.item, tenant_id, luck))
            takes_both = outgoing.url == outgoing.subscription.lifecycle_notification_url
            if takes_both and outgoing.is_change and luck.random() < hostility.lifecycle:
                items.append(write_lifecycle(outgoing.subscription, "reauthorizationRequired", tenant_id))
        if hostility.reorder:
            self._mixer.shuffle(items)
        return items

    async def _confess(self, parcel: list[_Outgoing], delay: float = 0.0) -> None:
        """Changes were dropped: a `missed` for each subscription concerned."""
        await self._wait(delay)
        for subscription in dict.fromkeys(outgoing.subscription for outgoing in parcel if outgoing.is_change):
            if subscription in self._subscriptions:
                self.send_lifecycle(subscription, "missed")

    # Tasks and time.

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        awake_at, due = loop.time() + seconds * self.time_scale, self._clock.now() + timedelta(seconds=seconds)
        while (left := awake_at - loop.time()) > 0 and self._clock.now() < due:  # noqa: ASYNC110 - the clock has no event
            await asyncio.sleep(min(left, LOOK_AT_CLOCK))


def _host(url: str) -> str:
    return URL(url, encoded=True).host or ""
