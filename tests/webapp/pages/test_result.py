"""A finished repair: the answer first, then before and after, the files with their hashes, how to do it again."""

from __future__ import annotations

import hashlib
import json
import re
import shlex

import pytest
from django.urls import reverse

from tests.repair_engine.pages.documents import METRICS
from tests.webapp.pages.helpers import read, succeed


@pytest.fixture
def url(world) -> str:
    return reverse("pages:repair", args=[world.owner.job.pk])


@pytest.mark.parametrize("metric", METRICS)
def test_before_and_after_with_the_whole_story(world, url, metric):
    found = succeed(world.owner.job, metric)
    page = read(world.owner.browser.get(url))
    headings = ["At a glance", "Findings and warnings", "Removal curve", "Culprits", "Controls", "How it was measured"]
    headings += ["Attacks"] if metric == "attack-success" else []
    for heading in headings:
        assert heading in page.text
    assert "percentage points, 95% interval" in page.text
    assert found["culprits"][0]["id"] in page.text
    captions = " ".join(page.tables)
    for table in ("Report images, before and after the repair", "Recall of classes", "Every prefix", "Ranked"):
        assert table in captions, table
    charts = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(charts) >= 6, "each chart wide and narrow"


def test_no_repair_found_is_a_full_answer(world, url):
    found = succeed(world.owner.job, "recall:shirt", k=2, gain=0.001)
    page = read(world.owner.browser.get(url))
    assert "No repair found" in page.text
    assert "This is a full answer" in page.text
    assert found["reasons"][0].endswith("an improvement is not shown.")
    assert page.text.count("an improvement is not shown") == 1, "why, in one sentence"
    assert "What was tried" in page.text
    assert not any("repaired." in (a["href"] or "") for a in page.all("a"))
    assert "There is no checkpoint, because there is no repair." in page.text
    assert {"report.html", "report.json"} <= {a["href"].split("/")[-1].split("?")[0] for a in page.all("a")}


def test_headings_below_a_part_are_headings(world, url):
    """Not the text of their tags: they are made a level lower on the page than in the file."""
    succeed(world.owner.job)
    answer = world.owner.browser.get(url).content.decode()
    assert "&lt;h" not in answer
    assert "<h4>Classes</h4>" in answer


def test_files_come_with_the_hash_that_is_shown(world, url):
    succeed(world.owner.job)
    page = read(world.owner.browser.get(url))
    link = next(a["href"] for a in page.all("a") if a["href"].endswith("repaired.safetensors"))
    answer = world.owner.browser.get(link)
    content = b"".join(answer.streaming_content)
    assert content == b"weights"
    assert hashlib.sha256(content).hexdigest() in page.text
    assert answer["Content-Disposition"].startswith("attachment")
    assert "same architecture, same keys" in page.text


def test_the_report_can_be_opened_and_runs_nothing(world, url):
    succeed(world.owner.job)
    answer = world.owner.browser.get(url + "files/report.html?inline=1")
    assert answer["Content-Disposition"].startswith("inline")
    assert answer["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert world.owner.browser.get(url + "files/nothing.txt").status_code == 404


def test_the_same_again_by_api_and_command_line(world, url, settings):
    settings.ARCHITECTURES = {"house net": "house.nets:make"}
    job, model = world.owner.job, world.owner.model
    succeed(job, "recall:shirt")
    job.request |= {"max_clean_drop": 0.01, "metric": "recall:it's"}
    job.save()
    model.architecture, model.preprocessing = "house net", {"resize": None, "mean": [0.5]}
    model.options, model.classes_text = {"width": 64}, "a\nb"
    model.save()
    page = world.owner.browser.get(url).content.decode()
    api, command = (re.sub(r"&(#x27|quot|amp);", lambda m: {"#x27": "'", "quot": '"', "amp": "&"}[m[1]], text)
                    for text in re.findall(r"<pre>(.*?)</pre>", page, re.S))  # fmt: skip
    words = shlex.split(api.replace("\\\n", ""))
    assert words[:4] == ["curl", "-X", "POST", "http://testserver/api/v1/repairs/"]
    body = json.loads(words[-1])
    assert body["metric"] == "recall:it's"
    assert body["budget"] == 300_000, "the budget that calibration chose, so that the values repeat"
    answer = world.owner.api.post("/api/v1/repairs/", body)
    assert answer.status_code == 202, answer.json()
    words = shlex.split(command.replace("\\\n", ""))
    assert words[1:3] == ["neuron-repair", "repair"]
    from repair_engine.cli.main import parser

    asked = parser().parse_args(words[2:])
    assert (asked.metric, asked.budget, asked.max_clean_drop, asked.resize) == ("recall:it's", 300_000, 0.01, "none")
    assert (asked.architecture, asked.options) == ("house net", ["width=64"])
    assert asked.register == ["house net=house.nets:make"]
    assert asked.classes == "classes.txt"


def test_a_result_without_a_report_still_gives_its_files(world, url):
    world.bells.answer()  # the tiny engine's report is no report
    page = read(world.owner.browser.get(url))
    assert any(a["href"].endswith("repaired.safetensors") for a in page.all("a"))
