"""Writes the app's two secrets into its Key Vault, each if it is not there yet, and lets the app read them anew.

  client-state-key   made here at random; azd runs this after provisioning
  notification-url   with the function key, which exists once the code is deployed; azd runs this after deploying

Everything goes through Azure Resource Manager: whoever may deploy may do this, and needs no role on the vault's data.
No value is printed, passed on a command line or read back. Not run against a real subscription.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from az import az, option, rest

ARM = "https://management.azure.com"
TEMPLATE = Path(__file__).resolve().parent.parent / "notification-url.bicep"
SETTINGS = {"client-state-key": "CLIENT_STATE_KEY", "notification-url": "NOTIFICATION_URL"}
TRIES, PAUSE = 6, 10.0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("secret", choices=sorted(SETTINGS))
    parser.add_argument("--new", action="store_true", help="write another version, though there is one")
    parser.add_argument("--key", default="default", help="name of the function key in the notification URL")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")
    option(parser, "--subscription", "AZURE_SUBSCRIPTION_ID", "id of the subscription")
    option(parser, "--resource-group", "AZURE_RESOURCE_GROUP", "name of the resource group")
    option(parser, "--vault", "AZURE_KEY_VAULT_NAME", "name of the vault")
    option(parser, "--app", "SERVICE_APP_NAME", "name of the function app")
    given = parser.parse_args(arguments)

    group = f"{ARM}/subscriptions/{given.subscription}/resourceGroups/{given.resource_group}/providers"
    vault = f"{group}/Microsoft.KeyVault/vaults/{given.vault}"
    version = current_version(vault, given.secret)
    if version and not given.new:
        print(f"{given.vault} holds {given.secret} already, version {version}: nothing to do")
        return 0
    print(f"{given.vault} is to get {'another' if version else 'a first'} version of {given.secret}")
    if given.dry_run:
        return 0
    if given.secret == "client-state-key":  # noqa: S105  its name
        # No tags and no content type: what is not given is not kept either.
        value = {"properties": {"value": secrets.token_urlsafe(32)}}
        rest("PUT", f"{vault}/secrets/{given.secret}?api-version=2023-07-01", value)
    else:
        write_notification_url(given)
    print(f"{given.secret} is written, version {current_version(vault, given.secret)}")
    return let_app_read(f"{group}/Microsoft.Web/sites/{given.app}", SETTINGS[given.secret])


def current_version(vault: str, name: str) -> str | None:
    """The secret's newest version, None if there is no such secret. Its value is not part of what ARM answers."""
    found = [s for s in rest("GET", f"{vault}/secrets?api-version=2023-07-01")["value"] if s["name"] == name]
    return str(found[0]["properties"]["secretUriWithVersion"]).rsplit("/", 1)[1] if found else None


def write_notification_url(given: argparse.Namespace) -> None:
    parameters = [f"appName={given.app}", f"vaultName={given.vault}", f"keyName={given.key}"]
    az(
        *("deployment", "group", "create", "--subscription", given.subscription),
        *("--resource-group", given.resource_group, "--name", "notification-url"),
        *("--template-file", str(TEMPLATE), "--parameters", *parameters),
        *("--query", "properties.provisioningState"),
    )


def let_app_read(site: str, setting: str) -> int:
    """Have the app's settings resolved anew, which by itself takes up to 24 hours, and the app start with them.

    Source: App Service, "Use Key Vault references as app settings", Understand rotation.
    """
    references = f"{site}/config/configreferences/appsettings"
    rest("POST", f"{references}/refresh?api-version=2022-03-01")
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        status = status_of(rest("GET", f"{references}?api-version=2022-03-01"), setting)
        if status == "Resolved":
            # A process keeps the settings that it started with.
            rest("POST", f"{site}/restart?api-version=2024-04-01")
            print(f"{setting} is resolved, and the app restarted with it")
            return 0
    print(f"{setting} is {status}, not Resolved; see docs/deploy.md, 'When something goes wrong'", file=sys.stderr)
    return 1


def status_of(references: Any, setting: str) -> str:
    found = [one["properties"]["status"] for one in references["value"] if one["name"] == setting]
    return str(found[0]) if found else "not a reference"


if __name__ == "__main__":
    sys.exit(main())
