"""Links in answers, such as a list's next page: followed on the service's own root, and nowhere else. Pure.

The token goes along with each request, so a link to another host or port must not be followed with it, and an answer
from there would not be the service's.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from sync.errors import Malformed

_PORTS = {"https": 443, "http": 80}


def followed(link: object, root: str, service: str) -> str:
    """Return the URL of *link* at *root*, the service's URL with its path. Raises: Malformed if it leads elsewhere.

    Scheme, host and port have to be the root's. An environment of Dataverse has two names for one host:
    ``contoso.crm4.dynamics.com`` and ``contoso.api.crm4.dynamics.com``. A link to the other one is followed at the
    root's. Source: Dataverse, "Compose HTTP requests and handle errors", Web API URL.
    """
    if not isinstance(link, str):
        raise Malformed(f"{service}: a link that is no text")
    try:
        there, here = urlsplit(link), urlsplit(root)
        is_own = (there.scheme, _port(there.scheme, there.port)) == (here.scheme, _port(here.scheme, here.port))
        is_own = is_own and _one_name(there.hostname) == _one_name(here.hostname) and not there.username
    except ValueError:
        is_own = False
    if not is_own or not there.path.startswith(here.path):
        raise Malformed(f"{service}: a link to elsewhere")
    return there._replace(netloc=here.netloc, fragment="").geturl()


def _port(scheme: str, port: int | None) -> int | None:
    return port if port is not None else _PORTS.get(scheme)


def _one_name(host: str | None) -> str:
    """Both names of an environment, or of this machine, as one."""
    host = (host or "").lower()
    if host == "localhost":
        return "127.0.0.1"
    first, _, rest = host.partition(".")
    return f"{first}.{rest.removeprefix('api.')}" if host.endswith(".dynamics.com") else host
