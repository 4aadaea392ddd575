"""Who may open a WebSocket, by address: proxies, households and counts."""

import pytest

from gateway.edge.admission import Admission, Asked, address_of
from gateway.edge.handler import EdgeLimits, Rejection, UpgradeRequest
from tests.edge.peer import KEY


def _asked(peer: str, forwarded: str | None = None, **headers: str) -> Asked:
    fields = {"host": "h", "sec-websocket-version": "13", "sec-websocket-key": KEY}
    if forwarded is not None:
        fields["x-forwarded-for"] = forwarded
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Asked("GET", "/ws", "", "1.1", fields, (peer, 4000))


@pytest.mark.parametrize(
    ("peer", "forwarded", "ip"),
    [
        ("192.0.2.1", "198.51.100.9", "192.0.2.1"),  # a stranger says so
        ("10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.9", "198.51.100.9"),  # the client made up the first
        ("10.0.0.1", "198.51.100.9, 10.0.0.2", "198.51.100.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.9, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "198.51.100.9", "198.51.100.9"),
        ("fd00::5", "198.51.100.9", "198.51.100.9"),
        ("", "198.51.100.9", ""),
    ],
)
def test_forwarded_addresses_count_as_far_as_proxies_are_trusted(
    peer: str, forwarded: str | None, ip: str
) -> None:
    admission = Admission(EdgeLimits(trusted_proxies=("10.0.0.0/8", "fd00::/8")))
    request = admission.judge(_asked(peer, forwarded))
    assert isinstance(request, UpgradeRequest)
    assert request.ip == ip
    assert request.port == (4000 if ip == peer else 0)


def test_without_trusted_proxies_nobody_is_believed() -> None:
    request = Admission(EdgeLimits()).judge(_asked("10.0.0.1", "198.51.100.9"))
    assert isinstance(request, UpgradeRequest)
    assert request.ip == "10.0.0.1"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_household_counts_as_one(one: str, other: str, same: bool) -> None:
    assert (address_of(one) == address_of(other)) is same


def test_the_books_balance() -> None:
    admission = Admission(EdgeLimits(connections_per_address=1))
    admission.enter("192.0.2.1")
    refused = admission.judge(_asked("192.0.2.1"))
    assert isinstance(refused, Rejection)
    assert refused.status == 429
    admission.leave("192.0.2.1")
    admission.leave("192.0.2.1")
    assert isinstance(admission.judge(_asked("192.0.2.1")), UpgradeRequest)


@pytest.mark.parametrize(
    ("headers", "bearer"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer "}, None),
        ({"sec_websocket_protocol": "session.v1, bearer.x.y.z"}, "x.y.z"),
        ({"authorization": "Bearer abc", "sec_websocket_protocol": "bearer.x"}, "abc"),
        ({}, None),
    ],
)
def test_a_token_may_come_in_two_ways(headers: dict[str, str], bearer: str | None) -> None:
    request = Admission(EdgeLimits()).judge(_asked("192.0.2.1", **headers))
    assert isinstance(request, UpgradeRequest)
    assert request.bearer == bearer


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://h", "h", None),
        ("https://h:8443", "h:8443", None),
        ("https://h", "h:8443", 403),
        ("http://h.evil", "h", 403),
        ("ftp://h", "h", 403),
        ("h", "h", 403),
        ("http://", "", 403),
        ("null", "null", 403),
    ],
)
def test_without_a_list_only_the_same_host_may_connect(origin: str, host: str, status: int | None) -> None:
    verdict = Admission(EdgeLimits()).judge(_asked("192.0.2.1", origin=origin, host=host))
    assert (verdict.status if isinstance(verdict, Rejection) else None) == status
