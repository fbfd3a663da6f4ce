"""One client for Microsoft Graph: token, time-outs, short waits, errors by name.

This file sends requests and hands over answers. It knows no event and no subscription, and it names no status code.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import datetime
from functools import cache
from typing import Any

import httpx
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.native_response_handler import NativeResponseHandler
from kiota_abstractions.request_information import RequestInformation
from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
from kiota_http.middleware.options import RedirectHandlerOption, ResponseHandlerOption, RetryHandlerOption
from msgraph.graph_request_adapter import GraphRequestAdapter, options
from msgraph.graph_service_client import GraphServiceClient
from msgraph_core import GraphClientFactory  # type: ignore[import-untyped]  # ships no py.typed

from sync.calls.answers import Service, check
from sync.calls.bodies import Collected
from sync.calls.links import followed
from sync.calls.pauses import Pauses
from sync.calls.retries import short_waits
from sync.errors import Misconfigured, NoAnswer, Transient
from sync.telemetry import spans as telemetry

TIMEOUT = httpx.Timeout(15.0, connect=5.0)
"""Seconds. Creating a subscription takes as long as the handshake, for which Graph waits ten."""

HUNG_FOR = 30.0
"""Seconds for which a mailbox that did not answer is left alone, so that its changes do not keep those of others."""

PAGES = 1_000
"""Pages of one list. If this is too small, a long list is refused. If it is too large, a nextLink that leads in a
circle keeps the worker busy for long."""

IMMUTABLE = ("Prefer", 'IdType="ImmutableId"')
"""A header: Graph answers with ids that stay the same when an item moves to another folder."""


class Transport:
    """One client for the process's life: authentication, time-outs, short waits, errors by name.

    *url* is Graph's with the version, without a trailing slash. Nothing is sent elsewhere, also when a nextLink names
    another host or port. *spent* is told of each call. Tests hand in their own
    *sleep*.
    """

    pages = PAGES
    """Pages of the longest list that is read."""

    def __init__(
        self,
        url: str,
        credential: AsyncTokenCredential,
        now: Callable[[], datetime],
        spent: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        root = httpx.URL(url)
        self._now = now
        self._spent = spent
        self.pauses = Pauses(now)
        self._http = GraphClientFactory.create_with_default_middleware(
            # ``calls/retries.py`` and the queue wait. A third layer would multiply their waits.
            options={
                **options,
                RetryHandlerOption.get_key(): RetryHandlerOption(max_retries=0),
                RedirectHandlerOption.get_key(): RedirectHandlerOption(should_redirect=False),
            },
            client=httpx.AsyncClient(
                verify=_trusted(),
                timeout=TIMEOUT,
                http2=root.scheme == "https",
                follow_redirects=False,
                event_hooks={"response": [_read_bounded]},
            ),
        )
        authentication = AzureIdentityAuthenticationProvider(
            credential, scopes=[f"{root.scheme}://{root.netloc.decode()}/.default"], allowed_hosts=[root.host]
        )
        self._adapter = GraphRequestAdapter(authentication, client=self._http)
        self._adapter.base_url = url
        self.client = GraphServiceClient(request_adapter=self._adapter)

    async def send(self, service: Service, request: RequestInformation, mailbox: str = "") -> Any:
        """The answer's JSON, None if it has none; a pause is that of the *mailbox*, if one is named.

        ``calls/pace.py`` keeps the pauses of subscriptions.
        Raises: what ``send_once`` raises; Paused if the service is left alone for now.
        """
        async for attempt in short_waits(self._sleep):
            with attempt, nullcontext() if service == "subscriptions" else self.pauses.kept(mailbox or service):
                return await self.send_once(service, request)
        raise AssertionError("unreachable")  # pragma: no cover

    async def send_once(self, service: Service, request: RequestInformation) -> Any:
        """Send *request* without a second try, and return the answer's JSON, None if it has none.

        Raises: NoAnswer after a time-out or a cut connection; Misconfigured or Transient without a token; and what
        ``answers.check`` names.
        """
        request.add_request_options([ResponseHandlerOption(NativeResponseHandler())])
        kind = _kind_of(request)
        # The adapter would fill in the template three times, which takes longer than all else here.
        set_url(request, self.url_of(request))
        self._spent()
        try:
            sending = self._adapter.send_primitive_async(request, "bytes", {})
            response: Any = await telemetry.called(service, kind, sending)
        except httpx.TimeoutException as error:
            # A short wait would not help: a mailbox that hangs now will hang in a second.
            patience = HUNG_FOR if service == "graph" else None
            raise NoAnswer(f"{service}: no answer ({type(error).__name__})", patience) from error
        except httpx.HTTPError as error:
            raise NoAnswer(f"{service}: no answer ({type(error).__name__})") from error
        except ClientAuthenticationError as error:
            raise Misconfigured("no token for Graph: is the app's identity set up?") from error
        except AzureError as error:
            raise Transient(f"{service}: no token ({type(error).__name__})") from error
        check(service, response.status_code, response.headers, response.content, self._now())
        if not response.content:
            return None
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError):
            raise Transient(f"{service}: an answer that is no JSON") from None

    def followed(self, link: object) -> str:
        """Return the URL of a *link* in an answer. Raises: Malformed if it leads elsewhere than to Graph itself."""
        return followed(link, str(self._adapter.base_url), "graph")

    def url_of(self, request: RequestInformation) -> str:
        """Return the URL of *request*: its template filled in."""
        self._adapter.set_base_url_for_request_information(request)
        return str(request.url)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()


def configured(parameters: Any, *headers: tuple[str, str]) -> RequestConfiguration[Any]:
    """Return what the SDK's request builders take: query *parameters* and headers as (name, value)."""
    configuration: RequestConfiguration[Any] = RequestConfiguration(query_parameters=parameters)
    for name, value in headers:
        configuration.headers.add(name, value)
    return configuration


def set_url(request: RequestInformation, url: str) -> None:
    """Let *request* go to *url*, whatever its template says."""
    # The parameters that it has belong to its builder as well. Setting the URL clears the request's own.
    request.path_parameters = {}
    request.url = url


def _kind_of(request: RequestInformation) -> str:
    """Like ``GET /users/{user-id}/events/{event-id}``: the template that the SDK fills in, which holds no value."""
    template = str(request.url_template or "").removeprefix("{+baseurl}").partition("{?")[0].replace("%2D", "-")
    return f"{request.http_method.value if request.http_method else ''} {template if '+' not in template else 'page'}"


async def _read_bounded(response: httpx.Response) -> None:
    """Read the body of *response*, as httpx would do next, but no more than a bound. Raises: Malformed."""
    collected = Collected("graph")
    async for piece in response.aiter_bytes():
        collected.add(piece)
    response._content = collected.body()


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted. Reading them takes 45 ms, so it is done once in a process."""
    return httpx.create_ssl_context()
