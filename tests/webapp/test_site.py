"""What holds for the whole site: headers, health, documentation, settings, checks."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

ROOT = Path(__file__).resolve().parents[2]


def test_every_answer_says_what_a_page_may_load(world):
    for url in ("/account/sign-in/", "/nowhere", "/api/v1/"):
        policy = Client().get(url)["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


def test_pages_that_are_not_there(world):
    answer = Client().get("/nowhere")
    assert answer.status_code == 404
    assert b"There is nothing at this address" in answer.content


def test_openapi_is_complete_and_valid(world, tmp_path):
    out = tmp_path / "schema.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(out))
    schema = json.loads(Client().get("/api/schema/", {"format": "json"}).content)
    operations = [(path, method) for path, item in schema["paths"].items() for method in item]
    assert ("/api/v1/repairs/", "post") in operations
    for path, method in operations:
        operation = schema["paths"][path][method]
        assert operation.get("description"), (path, method)
        assert operation["security"] == [{"token": []}, {"session": []}], (path, method)


def test_documentation_needs_no_other_server(world):
    page = Client().get("/api/docs/").content.decode()
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert any("swagger-ui" in address for address in addresses)
    assert all(address.startswith(("/", "data:")) for address in addresses), addresses
    for address in addresses:
        if address.startswith("/static/"):
            assert Client().get(address).status_code == 200, address


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    env = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "webapp.settings", **environment}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)


def test_settings_are_safe_unless_told_otherwise(tmp_path):
    code = (
        "from webapp import settings as s; print(s.DEBUG, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, "
        "s.SECURE_SSL_REDIRECT, s.SECURE_HSTS_SECONDS > 0, len(s.SECRET_KEY) >= 50)"
    )
    done = run(code, NR_DATA_DIR=str(tmp_path))
    assert done.stdout.split() == ["False", "True", "True", "True", "True", "True"], done.stderr


def test_the_web_process_does_without_torch(tmp_path):
    """It would cost every web process seconds and hundreds of MB."""
    code = "import django, sys; django.setup(); import webapp.urls, webapp.wsgi; print('torch' in sys.modules)"
    assert run(code, NR_DATA_DIR=str(tmp_path)).stdout.strip() == "False"


def test_the_secret_key_is_kept_and_private(tmp_path):
    code = "from webapp import settings as s; print(s.SECRET_KEY)"
    keys = {run(code, NR_DATA_DIR=str(tmp_path)).stdout for _ in range(2)}
    assert len(keys) == 1
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0
    (tmp_path / "key.txt").write_text("from a file\n")
    done = run(code, NR_DATA_DIR=str(tmp_path), SECRET_KEY_FILE=str(tmp_path / "key.txt"))
    assert done.stdout.strip() == "from a file"


def test_databases_and_brokers_by_url(tmp_path):
    code = "from webapp import settings as s; d = s.DATABASES['default']; print(d['ENGINE'], d['NAME'], s.REDIS_URL)"
    here = run(code, NR_DATA_DIR=str(tmp_path)).stdout.split()
    assert here[0].endswith("sqlite3")
    assert here[2].startswith("redis+socket://")
    there = run(
        code,
        NR_DATA_DIR=str(tmp_path),
        DATABASE_URL="postgres://u:p@db:5432/repair",
        REDIS_URL="redis://broker:6379/0",
    ).stdout.split()
    assert (there[0].rpartition(".")[2], *there[1:]) == ("postgresql", "repair", "redis://broker:6379/0")


def test_a_socket_path_is_never_too_long(tmp_path):
    deep = tmp_path / ("d" * 90) / ("e" * 90)
    deep.mkdir(parents=True)
    done = run("from webapp import settings as s; print(s.REDIS_SOCKET)", NR_DATA_DIR=str(deep))
    assert 0 < len(done.stdout.strip()) <= 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "perhaps"),
        ("EMAIL_URL", "mail.example.org"),
        ("NR_PROXY_NETWORKS", "proxy"),
        ("NR_SHARD_SECONDS", "soon"),
        ("NR_ARCHITECTURES", "x"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, name, value):
    done = run("import webapp.settings", NR_DATA_DIR=str(tmp_path), **{name: value})
    assert done.returncode != 0
    assert name in done.stderr


def test_checks_have_hints(tmp_path):
    code = "import django; django.setup(); from django.core.management import call_command; call_command('check')"
    done = run(code, NR_DATA_DIR=str(tmp_path), SECRET_KEY="short", NR_ARCHITECTURES="net=nowhere")
    assert "webapp.E001" in done.stderr
    assert "webapp.E004" in done.stderr
    assert "HINT" in done.stderr


def test_the_documented_production_setup_is_clean_once_it_is_migrated(tmp_path):
    """But for layers around the reader of uploads that this machine may lack."""
    code = (
        "import django; django.setup(); from django.core.management import call_command as call\n"
        "from django.core.checks import run_checks\n"
        "from webapp.checks import migrations_applied\n"
        "print([m.id for m in migrations_applied()]); call('migrate', verbosity=0)\n"
        "print([m.id for m in run_checks(include_deployment_checks=True) if not m.is_silenced()])"
    )
    documented = {
        "ALLOWED_HOSTS": "repair.example.org", "NR_HTTPS": "1", "NR_BEHIND_PROXY": "1",
        "NR_PROXY_NETWORKS": "172.16.0.0/12", "CSRF_TRUSTED_ORIGINS": "https://repair.example.org",
    }  # fmt: skip
    done = run(code, NR_DATA_DIR=str(tmp_path), **documented)
    before, after = (set(ast.literal_eval(line)) - {"webapp.W008"} for line in done.stdout.splitlines())
    assert (before, after) == ({"webapp.E010"}, set()), done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "False localhost 25 False False"),
        ({"EMAIL_URL": "submission://u:p@mail.example.org:2525"}, "True mail.example.org 2525 True False"),
        ({"EMAIL_HOST": "mail.example.org"}, "True mail.example.org 587 True False"),
        ({"EMAIL_HOST": "mail.example.org", "EMAIL_USE_SSL": "1"}, "True mail.example.org 465 False True"),
    ],
)
def test_mail_by_url_or_by_host(tmp_path, environment, expected):
    code = (
        "from django.conf import settings as s; "
        "print(s.MAIL, s.EMAIL_HOST, s.EMAIL_PORT, s.EMAIL_USE_TLS, s.EMAIL_USE_SSL)"
    )
    done = run(code, NR_DATA_DIR=str(tmp_path), **environment)
    assert done.stdout.strip() == expected, done.stderr
