"""Links in answers are followed on the service's own root, and nowhere else."""

from __future__ import annotations

import pytest

from sync.calls.links import followed
from sync.errors import Malformed

GRAPH = "https://graph.microsoft.com/v1.0"
DATAVERSE = "https://contoso.crm4.dynamics.com/api/data/v9.2/"


@pytest.mark.parametrize(
    ("link", "root", "expected"),
    [
        (f"{GRAPH}/users?$skip=1", GRAPH, f"{GRAPH}/users?$skip=1"),
        ("https://graph.microsoft.com:443/v1.0/users?a=b", GRAPH, f"{GRAPH}/users?a=b"),
        (f"{DATAVERSE}bookings?$skiptoken=%3c", DATAVERSE, f"{DATAVERSE}bookings?$skiptoken=%3c"),
        ("https://contoso.api.crm4.dynamics.com/api/data/v9.2/a?b=c", DATAVERSE, f"{DATAVERSE}a?b=c"),
        (
            "https://contoso.crm4.dynamics.com/api/data/v9.2/a",
            "https://contoso.api.crm4.dynamics.com/api/data/v9.2/",
            "https://contoso.api.crm4.dynamics.com/api/data/v9.2/a",
        ),
    ],
)
def test_a_link_to_the_service_itself_is_followed_at_its_own_root(link: str, root: str, expected: str) -> None:
    assert followed(link, root, "service") == expected


@pytest.mark.parametrize(
    ("link", "root"),
    [
        ("https://graph.microsoft.com:8443/v1.0/users", GRAPH),
        ("http://graph.microsoft.com/v1.0/users", GRAPH),
        ("https://graph.microsoft.com.evil.example/v1.0/users", GRAPH),
        ("https://user@graph.microsoft.com/v1.0/users", GRAPH),
        ("https://graph.microsoft.com/beta/users", GRAPH),
        ("https://graph.microsoft.com:port/v1.0/users", GRAPH),
        ("//graph.microsoft.com/v1.0/users", GRAPH),
        (7, GRAPH),
        ("https://fabrikam.crm4.dynamics.com/api/data/v9.2/a", DATAVERSE),
        ("https://contoso.api.crm.dynamics.com/api/data/v9.2/a", DATAVERSE),
        ("https://contoso.api.crm4.evil.example/api/data/v9.2/a", DATAVERSE),
    ],
)
def test_a_link_to_elsewhere_is_refused_by_name(link: object, root: str) -> None:
    with pytest.raises(Malformed, match="service: a link"):
        followed(link, root, "service")
