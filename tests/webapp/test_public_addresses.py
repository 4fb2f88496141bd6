"""Which addresses a webhook may call: a table, block by block."""

from __future__ import annotations

import pytest

from webapp.jobs import webhooks
from webapp.jobs.public_addresses import is_public

PUBLIC = [
    "8.8.8.8", "1.1.1.1", "192.0.1.1", "172.32.0.1", "100.128.0.1", "223.255.255.254",
    "2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "2400:cb00::1", "3ffd::1",
    "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1",
    "2001:0:4136:e378:8000:63bf:f7f7:f7f7",  # Teredo: server 65.54.227.120, client 8.8.8.8
]  # fmt: skip

SPECIAL = {
    "this network": ["0.0.0.0", "0.1.2.3"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"],
    "carriers' NAT": ["100.64.0.1", "100.127.255.254"],
    "loopback": ["127.0.0.1", "127.1.2.3", "::1"],
    "link-local": ["169.254.169.254", "fe80::1", "fe80::1%eth0", "febf::1"],
    "protocols": ["192.0.0.1", "192.0.0.170", "192.52.193.1", "192.88.99.1", "192.31.196.1", "192.175.48.1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "multicast and reserved": ["224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "ff02::1", "ff0e::1"],
    "unspecified": ["::"],
    "site-local": ["fec0::1", "feff::1"],
    "unique local": ["fc00::1", "fd00::1"],
    "discard": ["100::1", "100:0:0:1::1"],
    "ORCHID, 6bone, segment routing": ["2001:10::1", "2001:20::1", "3ffe::1", "5f00::1"],
    "outside of global unicast": ["4000::1", "8000::1", "1000::1", "::2", "e000::1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"],
    "IPv4-compatible": ["::127.0.0.1", "::10.0.0.1", "::8.8.8.8"],
    "IPv4-translated": ["::ffff:0:127.0.0.1", "::ffff:0:10.0.0.1", "::ffff:0:8.8.8.8"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1"],
    "local NAT64": ["64:ff9b:1::1", "64:ff9b:1::7f00:1", "64:ff9b:1:ffff::808:808", "64:ff9b:2::1"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::1", "2002:c0a8:101::1"],
    "Teredo": ["2001:0:7f00:1::f7f7:f7f7", "2001:0:4136:e378:8000:63bf:80ff:fffe"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address):
    assert is_public(address)
    webhooks.check_url(f"http://[{address}]/" if ":" in address else f"http://{address}/")


ROWS = [pytest.param(one, id=f"{kind}: {one}") for kind, many in SPECIAL.items() for one in many]


@pytest.mark.parametrize("address", ROWS)
def test_not_public(address):
    assert not is_public(address)
    with pytest.raises(webhooks.Blocked, match="not a public address"):
        webhooks.check_url(f"http://[{address}]/" if ":" in address else f"http://{address}/")


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "12::34::56", "x%eth0"])
def test_what_is_no_address(text):
    with pytest.raises(ValueError):
        is_public(text)
