"""How often a password may be tried, whoever asks and however the name is spelt."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from webapp.accounts import attempts
from webapp.accounts.attempts import Counter
from webapp.accounts.models import AttemptCount

URL, RIGHT = "/account/sign-in/", "correct horse battery"


def tried(name: str, password: str = "wrong", client: Client | None = None, **where: str) -> int:
    return (client or Client()).post(URL, {"username": name, "password": password}, **where).status_code


SPELLINGS = ["owner", " owner", "owner  ", "\u3000owner", "ｏwner", "ｏｗｎｅｒ", "\towner", "𝐨wner", "ⓞwner"]


def test_all_spellings_of_a_name_count_for_one_account(world):
    codes = [tried(SPELLINGS[i % len(SPELLINGS)]) for i in range(30)]
    assert codes == [200] * 10 + [429] * 20
    assert {tried(name, RIGHT) for name in SPELLINGS} == {429}


def test_a_name_that_nobody_has_is_limited_the_same(world):
    assert [tried(name) for name in ["nobody"] * 6 + ["ｎobody "] * 6] == [200] * 10 + [429] * 2


def test_one_address_is_limited_over_all_names(world, monkeypatch):
    monkeypatch.setattr(attempts, "PER_ADDRESS", 5)
    assert [tried(f"name{i}") for i in range(7)] == [200] * 5 + [429] * 2
    assert tried("owner", RIGHT) == 429
    assert tried("owner", RIGHT, REMOTE_ADDR="10.0.0.9") == 302


def test_one_account_is_limited_over_all_addresses_but_not_where_it_is_known(world, monkeypatch):
    """Nobody keeps an owner out of the browser in which they have signed in before."""
    monkeypatch.setattr(attempts, "PER_ACCOUNT", 5)
    known = Client()
    assert tried("owner", RIGHT, known) == 302
    known.post("/account/sign-out/")
    assert [tried("owner", REMOTE_ADDR=f"10.0.0.{i}") for i in range(7)] == [200] * 5 + [429] * 2
    assert tried("owner", RIGHT, REMOTE_ADDR="10.0.1.1") == 429
    assert tried("owner", RIGHT, known, REMOTE_ADDR="10.0.1.1") == 302
    known.post("/account/sign-out/")
    assert [tried("owner", "wrong", known) for _ in range(11)] == [200] * 10 + [429]  # guessing from there is limited
    assert tried("mate", "wrong", known, REMOTE_ADDR="10.0.2.1") == 200


def test_a_known_browser_is_of_one_account_and_one_password(world):
    client = Client()
    tried("owner", RIGHT, client)
    request = client.get("/account/password/").wsgi_request
    request.COOKIES[attempts.COOKIE] = client.cookies[attempts.COOKIE].value
    assert attempts._device(request, world.owner.user)
    assert not attempts._device(request, world.team_mate.user)
    world.owner.user.set_password("another one")
    assert not attempts._device(request, world.owner.user)
    request.COOKIES[attempts.COOKIE] += "x"
    assert not attempts._device(request, world.owner.user)


def test_signing_in_costs_nothing_and_the_window_ends(world):
    for _ in range(15):
        assert tried("owner", RIGHT) == 302
    assert [tried("owner") for _ in range(11)] == [200] * 10 + [429]
    AttemptCount.objects.update(until=timezone.now() - timedelta(seconds=1))
    assert tried("owner", RIGHT) == 302


def test_names_that_are_typed_are_not_kept(world):
    tried("my password by mistake")
    assert "mistake" not in str(list(AttemptCount.objects.values()))


def test_tries_at_once_do_not_slip_through(world):
    taken: list[bool] = []
    barrier = threading.Barrier(8)

    def many() -> None:
        barrier.wait()
        taken.extend(attempts.take(Counter("a", 10)) for _ in range(5))
        connection.close()

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count(True) == 10
    assert AttemptCount.objects.get().count == 10


def test_a_refused_try_counts_nowhere(world):
    assert attempts.take(Counter("full", 1))
    assert not attempts.take(Counter("roomy", 5), Counter("full", 1))
    assert sorted(AttemptCount.objects.values_list("count", flat=True)) == [0, 1]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),  # the client wrote the first
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7"),  # two proxies
        ("10.0.0.1", "rubbish", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("203.0.113.5", "198.51.100.7", "203.0.113.5"),  # no proxy of ours
        ("10.0.0.1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_forwarded_addresses_are_believed_of_declared_proxies_only(world, settings, peer, forwarded, client):
    import ipaddress

    request = Client().get("/livez", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded).wsgi_request
    assert attempts.address_of(request) == peer.replace("::ffff:", "")
    settings.PROXY_NETWORKS = [ipaddress.ip_network("10.0.0.0/8")]
    request = (
        Client()
        .get("/livez", REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded, HTTP_X_FORWARDED_PROTO="https")
        .wsgi_request
    )
    assert attempts.address_of(request) == client
    assert ("HTTP_X_FORWARDED_PROTO" in request.META) == (peer != "203.0.113.5")


def test_another_address_in_the_header_is_no_way_around(world):
    codes = [tried("owner", HTTP_X_FORWARDED_FOR=f"198.51.100.{i}") for i in range(12)]
    assert codes == [200] * 10 + [429] * 2
