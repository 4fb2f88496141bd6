"""The demo: the whole product on this machine, used through its REST API."""

from __future__ import annotations

import json
import secrets
import threading
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from webapp.accounts import services
from webapp.accounts.models import ApiToken, User
from webapp.devserver.report_text import describe
from webapp.devserver.samples import Sample, client
from webapp.devserver.stack import Stack

NAME = "demo"


@dataclass(frozen=True)
class Visitor:
    """How to sign in as the demo's user."""

    username: str
    password: str
    token: str


def invite() -> Visitor:
    """The demo's account, with a new random password and token at every start."""
    password = secrets.token_urlsafe(9)
    user = User.objects.filter(username=NAME).first()
    if user is None:
        user = services.create_user(username=NAME, password=password)
    else:
        user.set_password(password)
        user.save()
    for token in ApiToken.objects.filter(owner=user, name=NAME, revoked_at=None):
        services.revoke_token(token=token)
    _, key = services.create_token(owner=user, name=NAME)
    return Visitor(NAME, password, key)


def options_of(sample: Sample) -> Namespace:
    """The sample as the client's command line would have it."""
    files = ["--model", str(sample.folder / sample.model), "--data", str(sample.folder / sample.data)]
    model = ["--architecture", sample.architecture, "--num-classes", str(sample.num_classes)]
    asked = client().parser().parse_args(["repair", *files, *model, "--metric", sample.request["metric"]])
    asked.options = [f"{key}={json.dumps(value)}" for key, value in sample.options.items()] or None
    for role in ("classes", "guard"):
        if name := getattr(sample, role):
            setattr(asked, role, sample.folder / name)
    for name, value in (sample.preprocessing or {}).items():
        given = [*map(str, value)] if name in ("mean", "std") else value
        setattr(asked, name, "none" if given is None else given)
    for name, value in sample.request.items():
        setattr(asked, name, value)
    asked.name = sample.title
    return asked


class Run(threading.Thread):
    """One sample, from upload to files on disk, while the main thread looks after the processes."""

    def __init__(self, stack: Stack, sample: Sample, visitor: Visitor, out: Path) -> None:
        super().__init__(daemon=True)
        self.stack, self.sample, self.visitor, self.out = stack, sample, visitor, out
        self.repair: dict = {}
        self.files: list[str] = []
        self.failure: str = ""
        self.seconds = 0.0

    def run(self) -> None:
        api_client = client()
        began = time.monotonic()
        try:
            api = api_client.Api(self.stack.url, self.visitor.token, began + 4 * 3600)
            self.repair = api_client.wait(api, api_client.start(api, options_of(self.sample)))
            self.out.mkdir(parents=True, exist_ok=True)
            self.files = api_client.fetch(api, self.repair, self.out)
        except api_client.Failure as failure:
            self.failure = str(failure)
        self.seconds = time.monotonic() - began

    def summary(self) -> str:
        """What is printed at its end."""
        if self.failure:
            return f"The demo could not go on: {self.failure}"
        if self.repair["state"] != "succeeded":
            return f"The repair ended as {self.repair['state']}: {self.repair['error']} {self.repair['mend']}"
        lines = [describe(json.loads((self.out / "report.json").read_text())), ""]
        checkpoint = next((name for name in self.files if name.startswith("repaired.")), None)
        if checkpoint:
            lines.append(f"Repaired checkpoint:  {self.out / checkpoint}")
        lines.append(f"Report:               {self.out / 'report.html'}")
        lines.append(f"In the browser:       {self.stack.url}repairs/{self.repair['id']}/")
        lines.append(f"(It took {self.seconds:.0f} s, {self.repair['progress']['retries']} retries.)")
        return "\n".join(lines)
