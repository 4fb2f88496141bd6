"""Calls to other servers: signed, repeated a bounded number of times, never to where they must not go."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.utils import timezone

from webapp.api import delivery as delivery_of
from webapp.jobs import reaper, webhooks
from webapp.jobs.models import Delivery, Job

SECRET = "a secret of some length"


class Receiver:
    """A little server that notes what it is sent and answers as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict, bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.append((dict(self.headers), body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def allowed(settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True


def start(world, url: str, **webhook) -> dict:
    owner = world.owner
    answer = owner.api.post(
        "/api/v1/repairs/",
        {
            "model": str(owner.model.pk),
            "dataset": str(owner.dataset.pk),
            "metric": "accuracy",
            "webhook": {"url": url, "secret": SECRET, **webhook},
        },
    )
    assert answer.status_code == 202, answer.json()
    return answer.json()


def test_tells_of_start_and_end_with_a_signature_that_can_be_checked(world, receiver, allowed):
    made = start(world, receiver.url)
    world.bells.answer()
    events = [json.loads(body)["event"] for _, body in receiver.calls]
    assert events == ["repair.started", "repair.finished"]
    head, body = receiver.calls[1]
    told = json.loads(body)
    assert told["repair"]["id"] == made["id"]
    assert told["repair"]["state"] == "succeeded"
    time, sign = (part.split("=")[1] for part in head["X-Neuron-Repair-Signature"].split(","))
    expected = hmac.new(SECRET.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
    assert sign == expected
    assert abs(int(time) - timezone.now().timestamp()) < 60
    assert SECRET not in body.decode()


def test_only_the_events_that_were_asked_for(world, receiver, allowed):
    start(world, receiver.url, events=["repair.finished"])
    world.bells.answer()
    assert [json.loads(body)["event"] for _, body in receiver.calls] == ["repair.finished"]


def test_tells_of_cancellation_too(world, receiver, allowed):
    made = start(world, receiver.url)
    world.owner.api.post(f"/api/v1/repairs/{made['id']}/cancel/")
    world.bells.answer()
    assert json.loads(receiver.calls[0][1])["repair"]["state"] == "canceled"


def test_a_secret_is_made_up_if_none_is_given_and_shown_once(world, receiver, allowed):
    owner = world.owner
    made = owner.api.post(
        "/api/v1/repairs/",
        {
            "model": str(owner.model.pk),
            "dataset": str(owner.dataset.pk),
            "metric": "accuracy",
            "webhook": {"url": receiver.url},
        },
    ).json()
    assert made["webhook_secret"].startswith("whsec_")
    assert "webhook_secret" not in owner.api.get(f"/api/v1/repairs/{made['id']}/").json()


def test_tries_again_later_and_gives_up(world, receiver, allowed):
    receiver.answers = [500] * 100
    start(world, receiver.url, events=["repair.finished"])
    world.bells.answer()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts, len(receiver.calls)) == ("pending", 1, 1)
    assert delivery.due_at > timezone.now()
    assert "500" in delivery.last_error
    reaper.reap(force=True)
    world.bells.answer()
    assert len(receiver.calls) == 1  # it is not due yet
    for _ in range(20):
        Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        reaper.reap(force=True)
        world.bells.answer()
    delivery.refresh_from_db()
    assert delivery.state == "failed"
    assert delivery.attempts == len(receiver.calls) == len(delivery_of.PAUSES) + 1


def test_succeeds_at_the_second_attempt(world, receiver, allowed):
    receiver.answers = [503]
    start(world, receiver.url, events=["repair.finished"])
    world.bells.answer()
    Delivery.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    reaper.reap(force=True)
    world.bells.answer()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.last_error) == ("delivered", 2, "")


def test_two_bells_are_one_call(world, receiver, allowed):
    start(world, receiver.url, events=["repair.finished"])
    world.bells.answer()
    delivery = Delivery.objects.get()
    delivery_of.deliver(str(delivery.pk))
    assert len(receiver.calls) == 1


def test_redirects_are_not_followed(world, receiver, allowed):
    receiver.answers = [302]
    start(world, receiver.url, events=["repair.finished"])
    world.bells.answer()
    assert Delivery.objects.get().state == "pending"
    assert "302" in Delivery.objects.get().last_error


PRIVATE = [
    "http://127.0.0.1/", "http://10.1.2.3/", "http://192.168.0.1/", "http://169.254.169.254/latest/", "http://[::1]/",
    "http://0.0.0.0/", "http://[::ffff:127.0.0.1]/", "http://[fd00::1]/", "http://224.0.0.1/", "http://100.64.0.1/",
]  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused_at_once(world, url):
    owner = world.owner
    answer = owner.api.post(
        "/api/v1/repairs/",
        {"model": str(owner.model.pk), "dataset": str(owner.dataset.pk), "metric": "accuracy", "webhook": {"url": url}},
    )
    assert answer.status_code == 400
    assert Job.objects.count() == 2


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1"])
def test_a_name_that_leads_to_a_private_address_is_not_called(world, receiver, monkeypatch, address):
    """Also when it led elsewhere before: the address is checked at each call, and that very one is used."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    monkeypatch.setattr(
        "webapp.api.delivery.socket.getaddrinfo",
        lambda host, port, **_: [(family, socket.SOCK_STREAM, 6, "", (address, port))],
    )
    start(world, f"http://hooks.example.org:{receiver.server.server_port}/", events=["repair.finished"])
    world.bells.answer()
    delivery = Delivery.objects.get()
    assert delivery.state == "failed"
    assert "not a public address" in delivery.last_error
    assert receiver.calls == []


def test_a_server_that_is_away_does_not_disturb_the_job(world, allowed):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = start(world, f"http://127.0.0.1:{port}/")
    world.bells.answer()
    assert Job.objects.get(pk=made["id"]).state == "succeeded"
    assert {delivery.state for delivery in Delivery.objects.all()} == {"pending"}


TUNNELLED = ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::1", "::ffff:10.0.0.1"]


@pytest.mark.parametrize("address", TUNNELLED)
def test_an_ipv6_address_that_a_gateway_carries_to_a_private_one(address):
    with pytest.raises(webhooks.Blocked, match="not a public address"):
        webhooks.check_url(f"http://[{address}]/hook")
    webhooks.check_url("http://[2606:4700:4700::1111]/hook")


@pytest.mark.parametrize("url", ["http://example.com:99999/", "http://example.com:0/", "https://example.com:x/"])
def test_a_port_that_is_none_is_refused_at_once(world, url):
    owner = world.owner
    body = {"model": str(owner.model.pk), "dataset": str(owner.dataset.pk), "metric": "accuracy"}
    answer = owner.api.post("/api/v1/repairs/", {**body, "webhook": {"url": url}})
    assert answer.status_code == 400, answer.content
    assert answer.json()["errors"][0]["field"] == "webhook.url"
    assert not Delivery.objects.exists()


def test_an_address_that_cannot_be_called_is_given_up(world, allowed):
    """One that an earlier version let in."""
    job = world.owner.job
    Job.objects.filter(pk=job.pk).update(webhook_url="http://example.com:99999/", webhook_secret=SECRET)
    delivery = Delivery.objects.create(job=job, event="repair.started", due_at=timezone.now())
    delivery_of.deliver(str(delivery.pk))
    delivery.refresh_from_db()
    assert delivery.state == Delivery.State.FAILED
    assert "port" in delivery.last_error.lower()


def test_a_path_with_letters_beyond_ascii(world, receiver, allowed):
    start(world, receiver.url.replace("/hook", "/h%C3%BCok/ä"), events=["repair.started"])
    world.bells.answer()
    assert len(receiver.calls) == 1


def test_a_server_that_never_ends_its_answer_is_left(world, allowed, settings):
    """It sends a byte before each read's timeout is over."""
    settings.WEBHOOK_TIMEOUT = 0.5
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        connection, _ = listening.accept()
        with connection:
            while not over.wait(0.1):
                try:
                    connection.sendall(b"H")
                except OSError:
                    return

    threading.Thread(target=drip, daemon=True).start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    calling = threading.Thread(target=_ignoring, args=(delivery_of._post, url, b"{}", {}), daemon=True)
    calling.start()
    calling.join(60)
    left = not calling.is_alive()
    over.set()
    listening.close()
    assert left


def _ignoring(call, *args) -> None:
    with contextlib.suppress(Exception):
        call(*args)
