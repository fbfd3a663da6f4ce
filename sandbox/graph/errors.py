"""Errors in Graph's shape: what the simulated Graph answers itself, and ready-made ones to order as faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sandbox.faults import Fault


class GraphError(Exception):
    """A request refused; ``with_inner`` False leaves innerError out, as Outlook does for some codes."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        with_inner: bool = True,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})
        self.with_inner = with_inner


def build_error(code: str, message: str, now: datetime, request_id: str, client_request_id: str) -> dict[str, Any]:
    """The body of every error. Source: Microsoft Graph, "Error responses and resource types"."""
    inner = {
        "date": now.strftime("%Y-%m-%dT%H:%M:%S"),
        "request-id": request_id,
        "client-request-id": client_request_id,
    }
    return {"error": {"code": code, "message": message, "innerError": inner}}


def item_not_found() -> GraphError:
    return GraphError(404, "ErrorItemNotFound", "The specified object was not found in the store.")


def item_of_another_mailbox() -> GraphError:
    """Exchange's answer for an id that names another mailbox. Source: OfficeDev/office-js issue 1152."""
    return GraphError(404, "ErrorInvalidMailboxItemId", "Item Id doesn't belong to the current mailbox.")


def bad_request(message: str) -> GraphError:
    return GraphError(400, "BadRequest", message)


def throttled(retry_after: str | None = "7") -> GraphError:
    """Outlook's own refusal, which comes without innerError."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    message = "Application is over its MailboxConcurrency limit."
    return GraphError(429, "ApplicationThrottled", message, headers, with_inner=False)


@dataclass(frozen=True)
class ErrorAnswer:
    """An answer to order: ``faults.order(THROTTLED.fault(times=3, path="/events"))``."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def fault(self, **when: Any) -> Fault:
        """A new fault with this answer; *when* are the other fields of ``Fault``."""
        return Fault(**{"service": "graph", "status": self.status, "body": self.body, "headers": self.headers, **when})

    def retry_after(self, value: str | None) -> ErrorAnswer:
        """The same with another Retry-After: whole or fractional seconds, an HTTP date, or None for none."""
        return replace(self, headers={} if value is None else {"Retry-After": value})


def error(status: int, code: str, message: str) -> ErrorAnswer:
    """Any error in Graph's shape, to be ordered as a fault."""
    request_id = "3c2e0d92-3a86-4558-b201-418fc6a36994"
    return ErrorAnswer(status, build_error(code, message, datetime(2026, 3, 10, 6, 12, 16), request_id, request_id))


THROTTLED = ErrorAnswer(
    429,
    {"error": {"code": "ApplicationThrottled", "message": "Application is over its MailboxConcurrency limit."}},
    {"Retry-After": "7"},
)
TOO_MANY_REQUESTS = ErrorAnswer(
    429,
    {
        "error": {
            "code": "TooManyRequests",
            "innerError": {
                "code": "429",
                "date": "2026-03-10T06:12:16",
                "message": "Please retry after",
                "request-id": "3c2e0d92-3a86-4558-b201-418fc6a36994",
                "status": "429",
            },
            "message": "Please retry again later.",
        }
    },
    {"Retry-After": "2.128"},  # documented like this, a fraction
)
UNAVAILABLE = ErrorAnswer(
    503,
    {
        "error": {
            "code": "UnknownError",
            "message": "",
            "innerError": {"date": "2026-03-10T06:12:16", "request-id": "3c2e0d92-3a86-4558-b201-418fc6a36994"},
        }
    },
)
INTERNAL_ERROR = ErrorAnswer(
    500,
    {
        "error": {
            "code": "ErrorInternalServerError",
            "message": "An internal server error occurred. The operation failed.",
        }
    },
)
BAD_GATEWAY_HTML = ErrorAnswer(502, "<html><body><h2>502 - Web server received an invalid response.</h2></body></html>")
TOKEN_REFUSED = error(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
ACCESS_DENIED = error(403, "ErrorAccessDenied", "Access to OData is disabled.")
MAILBOX_INFO_STALE = error(
    503,
    "ExtensionError",
    "Operation: Create; Exception: [Status Code: ServiceUnavailable; Reason: Mailbox info is stale.]",
)
