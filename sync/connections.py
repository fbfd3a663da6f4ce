"""Connections to Graph: httpx's idea of a transport, which msgraph's SDK sends through, over aiohttp.

httpx's own takes more of the processor than anything else that a change needs. Nothing is judged here: an answer is
handed over as it came, and what goes wrong gets httpx's name for it. A library for this, httpx-aiohttp, rewrites
percent signs and takes a connection that was cut for a time-out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL


class Connections(httpx.AsyncBaseTransport):
    """Kept open between requests to *url*, by way of the proxy that the environment names for it, if it does."""

    def __init__(self, url: httpx.URL) -> None:
        self._proxy = None if proxy_bypass(url.host) else getproxies().get(url.scheme)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The whole answer. Raises: httpx.TimeoutException, httpx.NetworkError."""
        if self._session is None:
            # Cookies are httpx's, which unpacks the answer as well; no .netrc is read, which would replace our token.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        with _named_as_httpx_does():
            async with self._session.request(
                request.method,
                URL(str(request.url), encoded=True),  # ids keep their percent signs
                headers=request.headers.multi_items(),
                data=await request.aread() or None,
                timeout=_timeout(request.extensions.get("timeout") or {}),
                allow_redirects=False,
                proxy=self._proxy,
            ) as answer:
                content = await answer.read()
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=httpx.ByteStream(content))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


def _timeout(wanted: Mapping[str, float | None]) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, connect=wanted.get("pool"), sock_connect=wanted.get("connect"), sock_read=wanted.get("read")
    )


@contextmanager
def _named_as_httpx_does() -> Iterator[None]:
    """A time-out before the connection stands, one after that, and all else: somebody waits for what hangs."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout(type(error).__name__) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout(type(error).__name__) from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.NetworkError(type(error).__name__) from error
