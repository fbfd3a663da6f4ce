"""Graph's validation handshake with a webhook: one POST that must be answered with the token it brings."""

from __future__ import annotations

import random
import uuid
from http import HTTPStatus
from urllib.parse import quote, quote_plus

import aiohttp
from yarl import URL

from sandbox.graph.errors import GraphError

WITHIN = 10.0
"""Seconds."""


class Handshake:
    """Asks a URL whether it wants notifications. Source: Graph, "Receive change notifications through webhooks"."""

    def __init__(self, rng: random.Random, within: float = WITHIN) -> None:
        self._rng = random.Random(rng.getrandbits(64))  # its own: handshakes run when they run
        self._within = within
        self.passed: list[str] = []
        """Each URL that has answered as documented, once for each time."""

    async def __call__(self, url: str) -> None:
        """Return if the endpoint answers as documented.

        Raises: GraphError 400, as Graph answers the call that wanted the subscription.
        """
        token = self._token()
        status, content_type, body = await self._ask(url, token)
        if status != HTTPStatus.OK:
            known = status in HTTPStatus.__members__.values()
            reason = HTTPStatus(status).phrase.replace(" ", "") if known else status
            raise _refused(f" HTTP status code is '{reason}'.")
        if content_type != "text/plain" or body != token.encode():
            raise _refused()
        self.passed.append(url)

    def _token(self) -> str:
        """Opaque, and able to hold whatever an endpoint might decode or escape wrongly."""
        request_id = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        text = "Validation: Testing client application reachability for subscription Request-Id:"
        return f"{text} {request_id} 1+1=2 ÄÖ€"

    async def _ask(self, url: str, token: str) -> tuple[int, str, bytes]:
        # How a space is encoded is not documented, so both forms come.
        encoded = self._rng.choice([quote(token, safe=""), quote_plus(token)])
        target = URL(f"{url}{'&' if '?' in url else '?'}validationToken={encoded}", encoded=True)
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        timeout = aiohttp.ClientTimeout(total=self._within)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(target, headers=headers, allow_redirects=False) as answer,
            ):
                return answer.status, answer.content_type, await answer.read()
        except TimeoutError as trouble:
            raise GraphError(400, "InvalidRequest", "Subscription validation request timed out.") from trouble
        except aiohttp.ClientError as trouble:
            raise _refused() from trouble


def _refused(detail: str = "") -> GraphError:
    message = (
        f"Subscription validation request failed.{detail}"
        " Notification endpoint must respond with 200 OK to validation request."
    )
    return GraphError(400, "ValidationError", message)
