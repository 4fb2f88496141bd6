"""Run as a program by tests that use a real stack: makes an account, a ready model and a ready dataset.

Prints JSON {token, model, dataset}. The tiny engine never reads the files.
"""

from __future__ import annotations

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")


def main() -> None:
    django.setup()
    from tests.webapp.helpers import ready_dataset, ready_model
    from webapp.accounts import services

    user = services.create_user(username="seeded", password="correct horse battery")
    _, key = services.create_token(owner=user, name="test")
    model, dataset = ready_model(user, b"seed"), ready_dataset(user, b"seed")
    json.dump({"token": key, "model": str(model.pk), "dataset": str(dataset.pk)}, sys.stdout)


if __name__ == "__main__":
    main()
