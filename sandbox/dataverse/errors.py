"""Errors in Dataverse's shape: the status of each code, the body, and ready-made ones to order as faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sandbox.dataverse.tables import Refused
from sandbox.faults import Fault

STATUS_OF_CODE = {
    "0x80040217": 404,  # ObjectDoesNotExist
    "0x8006088a": 404,  # no such entity set
    "0x80060882": 412,  # ConcurrencyVersionMismatch
    "0x80040237": 412,  # DuplicateRecord
    "0x80060892": 412,  # DuplicateRecordEntityKey
    "0x80040220": 403,  # PrivilegeDenied
    "0x80072560": 403,  # UserNotMemberOfOrg
    "0x80040227": 405,  # CannotDeleteDueToAssociation
    "0x80072322": 429,
    "0x80072321": 429,
    "0x80072326": 429,
}
"""Any other is 400. Source: "Compose HTTP requests and handle errors", status codes."""


def status_of(refusal: Refused) -> int:
    return STATUS_OF_CODE.get(refusal.code, 400)


def build_error(code: str, message: str, *, annotated: bool = False) -> dict[str, Any]:
    """The body of every error; *annotated*: the request preferred annotations.

    Source: "Compose HTTP requests and handle errors", include more details with errors.
    """
    error = {"code": code, "message": message}
    if annotated:
        help_link = f"http://go.microsoft.com/fwlink/?LinkID=398563&error=Microsoft.Crm.CrmException%3a{code[2:]}"
        error |= {
            "@Microsoft.PowerApps.CDS.ErrorDetails.OperationStatus": "1",
            "@Microsoft.PowerApps.CDS.ErrorDetails.SubErrorCode": "12345",
            "@Microsoft.PowerApps.CDS.HelpLink": f"{help_link}&client=platform",
            "@Microsoft.PowerApps.CDS.TraceText": f"\r\n[{message}]\r\n",
            "@Microsoft.PowerApps.CDS.InnerError.Message": message,
        }
    return {"error": error}


def bad_payload(entity_set: str, message: str) -> Refused:
    """0x80048d19 is the code of everything the deserializer trips over."""
    return Refused(
        "0x80048d19",
        f"Error identified in Payload provided by the user for Entity :'{entity_set}', For more information on this "
        "error please follow this help link https://go.microsoft.com/fwlink/?linkid=2195293  ---->  InnerException : "
        f"Microsoft.OData.ODataException: {message}",
    )


def privilege_missing(privilege: str, table: str, display_name: str, user: str) -> Refused:
    """The text names the privilege, which is how an operator learns what the role lacks."""
    return Refused(
        "0x80040220",
        f"Principal user (Id={user}, type=8, roleCount=1, accessMode='4 Non-interactive'), is missing {privilege} "
        f"privilege on OTC=1145 for entity '{table}' (LocalizedName='{display_name}'). context.Caller={user}. "
        "Consider adding missed privilege to one of the principal (user/team) roles.",
    )


NOT_A_MEMBER = Refused("0x80072560", "The user is not a member of the organization.")


@dataclass(frozen=True)
class ErrorAnswer:
    """An answer to order: ``faults.order(THROTTLED_REQUESTS.fault(times=3, method="PATCH"))``."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def fault(self, **when: Any) -> Fault:
        """A new fault with this answer; *when* are the other fields of ``Fault``."""
        answer = {"service": "dataverse", "status": self.status, "body": self.body, "headers": self.headers}
        return Fault(**{**answer, **when})

    def retry_after(self, value: str | None) -> ErrorAnswer:
        """The same with another Retry-After: seconds, an HTTP date, or None for none."""
        others = {name: text for name, text in self.headers.items() if name != "Retry-After"}
        return replace(self, headers=others if value is None else {**others, "Retry-After": value})


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> ErrorAnswer:
    """Any error in Dataverse's shape, to be ordered as a fault."""
    return ErrorAnswer(status, build_error(code, message), {"OData-Version": "4.0", **(headers or {})})


# Source: "Service protection API limits".
_LEFT = {"x-ms-ratelimit-burst-remaining-xrm-requests": "0", "x-ms-ratelimit-time-remaining-xrm-requests": "845.62"}
THROTTLED_REQUESTS = error(
    429,
    "0x80072322",
    "Number of requests exceeded the limit of 6000 over time window of 300 seconds.",
    {**_LEFT, "Retry-After": "37"},
)
THROTTLED_TIME = error(
    429,
    "0x80072321",
    "Combined execution time of incoming requests exceeded limit of 1,200,000 milliseconds over time window of 300 "
    "seconds. Decrease number of concurrent requests or reduce the duration of requests and try again later.",
    {**_LEFT, "Retry-After": "121"},
)
THROTTLED_CONCURRENCY = error(
    429, "0x80072326", "Number of concurrent requests exceeded the limit of 52.", {**_LEFT, "Retry-After": "5"}
)
UNAVAILABLE = error(503, "0x80044b01", "The service is temporarily unavailable.", {"Retry-After": "10"})
SQL_TIMEOUT = error(500, "0x80044151", "SQL timeout expired.")
PLUGIN_REFUSED = error(400, "0x80040265", "A plug-in does not want this.")
STALE = error(412, "0x80060882", "The version of the existing record doesn't match the RowVersion property provided.")
# Gateways in front of the service know nothing of OData.
BAD_GATEWAY_HTML = ErrorAnswer(502, "<html><body><h2>502 - Web server received an invalid response.</h2></body></html>")
UNAVAILABLE_HTML = ErrorAnswer(503, "<html><body><h2>Our services aren't available right now</h2></body></html>")
