"""Makes the app's identity an application user of the Dataverse environment, with one security role.

Shows what is there and what is missing; writes only with --apply. Needs a System Administrator of the environment,
signed in with `az login`. The role is yours to make, once, at organization level; these privileges should do:

  User, Bookable Resource, Booking Status    Read
  Bookable Resource Booking                  Read, Write, Append
  Booking Status                             Append To

Field Service's plug-ins may demand more: begin with a copy of "Field Service - Dispatcher" in a sandbox environment and
cut it down; Dataverse's 403 names the privilege that is missing. Not run against a real environment; if it is refused,
do it by hand: Power Platform admin center, Environment, Settings, Application users, New app user.

Source: Power Platform, "Manage application users"; Dataverse Web API, "Associate and disassociate table rows".
"""

from __future__ import annotations

import argparse
import sys
from typing import Any
from uuid import UUID

from az import option, rest


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option(parser, "--url", "DATAVERSE_URL", "the environment, like https://contoso.crm4.dynamics.com")
    option(parser, "--client-id", "SERVICE_APP_IDENTITY_CLIENT_ID", "client (application) id of the identity")
    parser.add_argument("--role", required=True, help="name of the security role, in the root business unit")
    parser.add_argument("--apply", action="store_true", help="write what is missing")
    given = parser.parse_args(arguments)
    environment = Environment(given.url.rstrip("/"))
    client_id = str(UUID(given.client_id))

    unit = environment.only("businessunits", "businessunitid", "_parentbusinessunitid_value eq null")
    text = given.role.replace("'", "''")
    role = environment.only("roles", "roleid", f"name eq '{text}' and _businessunitid_value eq {unit}")
    if unit is None or role is None:
        sys.exit(f"There is no role {given.role!r} in the root business unit: make it first, see --help")
    user = environment.only("systemusers", "systemuserid", f"applicationid eq {client_id}")
    roles = environment.rows(f"systemusers({user})/systemuserroles_association?$select=roleid") if user else []
    has_role = any(row["roleid"] == role for row in roles)

    print(f"  application user {client_id}: {'is there' if user else 'is to be made, in the root business unit'}")
    print(f"  role {given.role!r}: {'is assigned' if has_role else 'is to be assigned'}")
    if user and has_role:
        print("Nothing to do.")
        return 0
    if not given.apply:
        print("Nothing was changed; --apply does it.")
        return 0
    if user is None:
        body = {"applicationid": client_id, "businessunitid@odata.bind": f"/businessunits({unit})"}
        environment.post("systemusers", body)
        user = environment.only("systemusers", "systemuserid", f"applicationid eq {client_id}")
    if not has_role:
        link = {"@odata.id": f"{environment.api}/roles({role})"}
        environment.post(f"systemusers({user})/systemuserroles_association/$ref", link)
    print("Done.")
    return 0


class Environment:
    """The Web API of one Dataverse environment."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.api = f"{url}/api/data/v9.2"

    def rows(self, path: str) -> list[dict[str, Any]]:
        answer = rest("GET", f"{self.api}/{path}", resource=self._url)
        return list(answer["value"])

    def only(self, table: str, key: str, condition: str) -> str | None:
        """The key of the one row that fits, None if there is none; several end the script."""
        found = self.rows(f"{table}?$select={key}&$filter={condition}")
        if len(found) > 1:
            sys.exit(f"{len(found)} rows of {table} fit {condition!r}; that is for a person to decide")
        return str(found[0][key]) if found else None

    def post(self, path: str, body: dict[str, str]) -> None:
        rest("POST", f"{self.api}/{path}", body, resource=self._url)


if __name__ == "__main__":
    sys.exit(main())
