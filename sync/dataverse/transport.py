"""One session for Dataverse: token, time-outs, pages, short waits, errors by name.

This file sends requests and hands over answers. It knows no booking, and it names no status code.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import requests
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from requests.adapters import HTTPAdapter

from sync.calls.answers import check
from sync.calls.bodies import Collected
from sync.calls.links import followed
from sync.calls.pauses import DATAVERSE, Pauses
from sync.calls.retries import short_waits
from sync.dataverse.parsing import rows_of
from sync.errors import Malformed, Misconfigured, NoAnswer, NotWritten, Refused, Stale, SyncError, Transient
from sync.telemetry import spans as telemetry

TIMEOUT = (5.0, 30.0)
"""Seconds to connect and between bytes; a write runs Field Service's plug-ins before it answers."""

CONNECTIONS = 32
"""Below the 52 concurrent requests a user may have. Source: Dataverse, "Service protection API limits"."""

PAGES = 1_000
"""Pages of one list. If this is too small, a long list is refused. If it is too large, a nextLink that leads in a
circle keeps the worker busy for long."""

PAGE_SIZE = 5_000
"""Rows in one answer of a long list, as many as Dataverse allows. Fewer take more calls."""

_PIECE = 64 * 1024
"""Bytes that are read at once."""

T = TypeVar("T")


class _Answer(NamedTuple):
    status_code: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """One session, one pool, for the process's life: authentication, time-outs, short waits, errors by name.

    *url* is the environment's, like ``https://contoso.crm4.dynamics.com``. *spent* is told of each call. Unless it
    *may_write*, it sends reads only. Tests hand in their own *sleep*.
    """

    pages = PAGES
    """Pages of the longest list that is read."""

    def __init__(
        self,
        url: str,
        credential: AsyncTokenCredential,
        now: Callable[[], datetime],
        spent: Callable[[], None] = lambda: None,
        may_write: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._spent = spent
        self._may_write = may_write
        self._root = f"{url.rstrip('/')}/api/data/v9.2/"
        self._scope = f"{urlsplit(url).scheme}://{urlsplit(url).netloc}/.default"
        self._credential = credential
        self._now = now
        self.pauses = Pauses(now)
        self._session = requests.Session()
        self._session.mount(url, HTTPAdapter(pool_connections=1, pool_maxsize=CONNECTIONS, pool_block=True))
        # Not asyncio's own few threads, which also look up the names of hosts for everybody else.
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="dataverse")
        self._session.auth = _leave_alone
        # The affinity cookie would tie all instances' calls to one web server and its limits.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update(
            {
                "Accept": "application/json",
                "OData-MaxVersion": "4.0",
                "OData-Version": "4.0",
                "If-None-Match": "null",
            }
        )

    async def get(self, path: str, page_size: int | None = None, headers: Mapping[str, str] | None = None) -> Any:
        """The JSON at *path*, which is relative or the nextLink of an earlier page, its query percent-encoded."""
        prefer = {"Prefer": f"odata.maxpagesize={page_size}"} if page_size else {}
        return await self._send("GET", path, {**prefer, **(headers or {})}, None)

    async def get_rows(self, path: str, page_size: int) -> list[Any]:
        """Return the rows of all pages of the list at *path*, with *page_size* rows in one answer.

        Raises: Malformed if the list does not end, or is none; what ``get`` raises.
        """
        rows: list[Any] = []
        link: str | None = path
        for _ in range(self.pages):
            page = await self.get(str(link), page_size=page_size)
            rows += rows_of(page)
            link = page.get("@odata.nextLink")
            if not link:
                return rows
        raise Malformed("dataverse: a list without an end")

    async def patch(self, path: str, columns: dict[str, Any], etag: str) -> Any:
        """The row afterwards, with those of its columns that *path* selects.

        Raises: NotWritten if every try was refused, or not sent; NoAnswer if one of them was not answered.
        Source: Dataverse Web API, "Perform conditional operations": without If-Match, PATCH creates rows; "Update with
        data returned".
        """
        return await self._send("PATCH", path, {"If-Match": etag, "Prefer": "return=representation"}, columns)

    async def post(self, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> None:
        """Send *body* once. There is no second try, because one without an answer may have been carried out."""
        await self._send_once("POST", self._root + path, dict(headers or {}), body)

    async def _send(self, method: str, path: str, headers: dict[str, str], columns: dict[str, Any] | None) -> Any:
        is_link = path.startswith(("https://", "http://"))
        url = followed(path, self._root, "dataverse") if is_link else self._root + path
        tries: list[SyncError] = []
        try:
            async for attempt in short_waits(self._sleep):
                with attempt, self.pauses.kept(DATAVERSE):
                    try:
                        return await self._send_once(method, url, headers, columns)
                    except SyncError as error:
                        tries.append(error)
                        raise
        except SyncError as error:
            named = error if method == "GET" else _name_of_write(error, tries)
            if named is error:
                raise
            raise named from error
        raise AssertionError("unreachable")  # pragma: no cover

    async def _send_once(self, method: str, url: str, headers: dict[str, str], columns: dict[str, Any] | None) -> Any:
        if method != "GET" and not self._may_write:
            raise _unsent(Refused("dataverse: nothing is written while SYNC_MODE is observe"))
        try:
            token = (await self._credential.get_token(self._scope)).token
            ask = partial(self._ask, method, url, {**headers, "Authorization": f"Bearer {token}"}, columns)
            self._spent()
            answer = asyncio.get_running_loop().run_in_executor(self._threads, ask)
            table = re.split(r"[(?]", url.removeprefix(self._root))[0]
            response = await telemetry.called("dataverse", f"{method} {table}", answer)
        except requests.RequestException as error:
            raise NoAnswer(f"dataverse: no answer ({type(error).__name__})") from error
        except ClientAuthenticationError as error:
            raise _unsent(Misconfigured("no token for Dataverse: is the app's identity set up?")) from error
        except AzureError as error:
            raise _unsent(Transient(f"dataverse: no token ({type(error).__name__})")) from error
        check("dataverse", response.status_code, response.headers, response.body, self._now())
        if not response.body:
            return None
        try:
            return json.loads(response.body)
        except (ValueError, RecursionError):
            raise Transient("dataverse: an answer that is no JSON") from None

    def _ask(self, method: str, url: str, headers: dict[str, str], columns: dict[str, Any] | None) -> _Answer:
        """The answer, in a thread of the pool. Raises: Malformed if its body is too large."""
        with self._session.request(
            method, url, headers=headers, json=columns, timeout=TIMEOUT, allow_redirects=False, stream=True
        ) as response:
            collected = Collected("dataverse")
            for piece in response.iter_content(_PIECE):
                collected.add(piece)
            return _Answer(response.status_code, response.headers, collected.body())

    def close(self) -> None:
        """Close all connections, and end the threads."""
        self._session.close()
        self._threads.shutdown(wait=False)


def _name_of_write(error: SyncError, tries: Sequence[SyncError]) -> SyncError:
    """The error that the *tries* of one write come to; *error* is the last. A pause that prevented it leaves no tries.

    Example: 503, then 412. The first try may have been done, so this is the plain Stale, and not NotWritten.
    """
    if all(each.is_undone for each in tries):
        return NotWritten(error)
    if any(isinstance(each, NoAnswer) for each in tries) and not isinstance(error, NoAnswer | Stale):
        return NoAnswer(str(error), getattr(error, "retry_after", None))
    return error


def _unsent(error: SyncError) -> SyncError:
    """*error* of a request that was not sent."""
    error.is_undone = True
    return error


def _leave_alone(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keeps requests from putting what a .netrc file says in the place of our token."""
    return request
