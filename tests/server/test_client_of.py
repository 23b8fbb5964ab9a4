from __future__ import annotations

from typing import Any

import pytest

from dragoman_service.server.servicer import client_of


class Caller:
    def __init__(self, peer: str, **metadata: str) -> None:
        self._peer, self._metadata = peer, tuple(metadata.items())

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return self._metadata


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:192.0.2.7:51234", "ipv4:192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:51234", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::1]:51234", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:51234", "ipv4:192.0.2.7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:51234", "ipv6:fe80::/64"),
        ("unix:/run/dragoman.sock", "unix"),
        ("", ""),
    ],
)
def test_a_client_is_its_network_address(peer: str, client: str) -> None:
    context: Any = Caller(peer)
    assert client_of(context, "") == client


def test_a_trusted_header_names_the_client() -> None:
    context: Any = Caller("ipv4:192.0.2.7:1", **{"x-client": "tenant" * 100})
    assert client_of(context, "x-client") == ("tenant" * 100)[:200]
    assert client_of(context, "x-other") == "ipv4:192.0.2.7"


def test_of_forwarded_addresses_the_one_counts_that_the_nearest_proxy_has_seen() -> None:
    context: Any = Caller("ipv4:192.0.2.7:1", **{"x-forwarded-for": "made up, 198.51.100.4"})
    assert client_of(context, "x-forwarded-for") == "198.51.100.4"
    twice: Any = Caller("ipv4:192.0.2.7:1")
    twice._metadata = (("x-forwarded-for", "made up"), ("x-forwarded-for", "198.51.100.4"))
    assert client_of(twice, "x-forwarded-for") == "198.51.100.4"
