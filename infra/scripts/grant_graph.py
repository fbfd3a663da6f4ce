"""Grants the app's identity Microsoft Graph's application permission Calendars.Read, and nothing else.

Shows what is granted and what is missing; grants only with --apply. Needs a Privileged Role Administrator, signed in
with `az login`. The permission covers all mailboxes of the tenant: narrow it first, with scope-mailboxes.ps1.
Not run against a real tenant.

Source: Graph, "Grant an appRoleAssignment to a service principal".
"""

from __future__ import annotations

import argparse
import sys

from az import option, rest

GRAPH = "https://graph.microsoft.com/v1.0"
GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
WANTED = "Calendars.Read"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option(parser, "--principal-id", "SERVICE_APP_IDENTITY_PRINCIPAL_ID", "object id of the identity")
    parser.add_argument("--apply", action="store_true", help="grant what is missing")
    given = parser.parse_args(arguments)

    graph = rest("GET", f"{GRAPH}/servicePrincipals(appId='{GRAPH_APP_ID}')?$select=id,appRoles")
    names = {role["id"]: role["value"] for role in graph["appRoles"] if "Application" in role["allowedMemberTypes"]}
    assignments = f"{GRAPH}/servicePrincipals/{given.principal_id}/appRoleAssignments"
    granted = {
        names.get(one["appRoleId"], one["appRoleId"])
        for one in rest("GET", assignments)["value"]
        if one["resourceId"] == graph["id"]
    }

    for name in sorted(granted - {WANTED}):
        print(f"  granted, and not needed by the app: {name}")
    if WANTED in granted:
        print(f"  {WANTED} is granted already: nothing to do")
        return 0
    print(f"  {WANTED} is to be granted to {given.principal_id}, for all mailboxes of the tenant")
    if not given.apply:
        print("Nothing was changed; --apply does it.")
        return 0
    role = next(identifier for identifier, name in names.items() if name == WANTED)
    rest("POST", assignments, {"principalId": given.principal_id, "resourceId": graph["id"], "appRoleId": role})
    print(f"  {WANTED} is granted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
