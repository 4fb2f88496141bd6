"""A real Chromium for the browser tests."""

from __future__ import annotations

import os
import shutil

import pytest

CHROMIUM = os.environ.get("NR_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict) -> dict:
    if CHROMIUM is None:
        pytest.skip("BROWSER TEST NOT RUN: there is no chromium on PATH (apt install chromium, or set NR_CHROMIUM).")
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": FLAGS}
