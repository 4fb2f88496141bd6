"""Which addresses are the public internet's: what a webhook may call.

By allow-list, for what is not known to be public must not be reached: IPv4 outside of the special-purpose blocks, and
IPv6 global unicast (2000::/3) without its special-purpose blocks. Addresses that a gateway carries on to an IPv4 one
(mapped, NAT64, 6to4, Teredo) are as public as the IPv4 addresses in them. The lists are IANA's special-purpose
registries (RFC 6890 and its updates), written out: those of `ipaddress` differ between versions of Python.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_SPECIAL_4 = [
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        "224.0.0.0/3",  # multicast, reserved and the limited broadcast
    )
]
_GLOBAL_6 = IPv6Network("2000::/3")
_SPECIAL_6 = [
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20")  # 2001::/32: see below
]
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052; the local-use 64:ff9b:1::/48 of RFC 8215 is nobody's public address
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")


def is_public(text: str) -> bool:
    """Whether this IPv4 or IPv6 address is globally routable unicast. Raises ValueError when it is no address."""
    if "%" in text:  # a zone: link-local by what it means
        ip_address(text.partition("%")[0])
        return False
    return _is_public(ip_address(text))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _SPECIAL_4)
    carried = _carried(ip)
    if carried:
        return all(_is_public(one) for one in carried)
    return ip in _GLOBAL_6 and not any(ip in network for network in _SPECIAL_6)


def _carried(ip: IPv6Address) -> tuple[IPv4Address, ...]:
    """IPv4 addresses to which a gateway carries what is sent to this one."""
    bits = int(ip)
    if ip in _MAPPED or ip in _NAT64:
        return (IPv4Address(bits & 0xFFFFFFFF),)
    if ip in _6TO4:
        return (IPv4Address(bits >> 80 & 0xFFFFFFFF),)
    if ip in _TEREDO:  # server, and the client with its bits turned over
        return IPv4Address(bits >> 64 & 0xFFFFFFFF), IPv4Address(~bits & 0xFFFFFFFF)
    return ()
