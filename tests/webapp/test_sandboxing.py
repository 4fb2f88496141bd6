"""What is in force is said at the start and to staff; with less than is asked for nothing starts."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from repair_engine.support import sandbox
from webapp import sandboxing


@pytest.fixture
def found(monkeypatch) -> dict[str, bool]:
    """A platform as a container is: without namespaces."""
    found = {name: name != "namespaces" for name in sandbox.LAYERS}
    monkeypatch.setattr(sandbox, "in_force", lambda: found)
    monkeypatch.setattr(sandbox.layers, "in_force", lambda: found)
    return found


def test_staff_sees_what_is_in_force_and_others_see_nothing(world, found):
    sandboxing.begin("cpu1@here")
    assert [(one.name, one.missing) for one in sandboxing.said()] == [("cpu1@here", ["namespaces"])]
    assert world.owner.browser.get("/operator/").status_code == 404
    assert "/operator/" not in world.owner.browser.get("/").content.decode()
    world.owner.user.is_staff = True
    world.owner.user.save()
    page = world.owner.browser.get("/operator/").content.decode()
    assert "cpu1@here" in page
    assert page.count('<span class="state failed">missing</span>') == 1
    assert page.count(">in force<") == len(sandbox.LAYERS) - 1
    assert "/operator/" in world.owner.browser.get("/").content.decode()


def test_nothing_starts_with_less_than_is_asked_for(settings, found, monkeypatch):
    monkeypatch.setenv(sandbox.REQUIRE, "landlock,seccomp")
    sandboxing.begin("web")
    call_command("check")
    monkeypatch.setenv(sandbox.REQUIRE, "namespaces,seccomp")
    with pytest.raises(SystemExit, match="namespaces"):
        sandboxing.begin("web")
    with pytest.raises(SystemCheckError, match="namespaces"):
        call_command("check")
    monkeypatch.setenv(sandbox.REQUIRE, "apparmor")
    with pytest.raises(SystemExit, match="no layer apparmor"):
        sandboxing.begin("web")


def test_a_worker_refuses_through_celerys_own_signal(found, monkeypatch):
    """Celery swallows what a receiver raises, unless it ends the program."""
    from celery import signals

    monkeypatch.setenv(sandbox.REQUIRE, "namespaces")
    with pytest.raises(SystemExit):
        signals.worker_init.send(sender=None)
