"""Every address with an id: another user's id is 404, no account is 401, a wrong method is 405."""

from __future__ import annotations

import pytest

from webapp.jobs.models import ShareLink
from webapp.library import resumable

TUS = {"Tus-Resumable": "1.0.0"}  # what that protocol wants to hear first; nobody else minds

URLS = {
    "model": "/api/v1/models/{model}/",
    "dataset": "/api/v1/datasets/{dataset}/",
    "upload": "/api/v1/uploads/{upload}/",
    "direct upload": "/api/v1/direct-uploads/{direct}/",
    "parts": "/api/v1/direct-uploads/{direct}/parts/",
    "complete": "/api/v1/direct-uploads/{direct}/complete/",
    "repair": "/api/v1/repairs/{job}/",
    "cancel": "/api/v1/repairs/{job}/cancel/",
    "retry": "/api/v1/repairs/{job}/retry/",
    "restore": "/api/v1/repairs/{job}/restore/",
    "gates": "/api/v1/repairs/{job}/gates/",
    "events": "/api/v1/repairs/{job}/events/",
    "result": "/api/v1/repairs/{job}/results/report.json",
    "links": "/api/v1/repairs/{job}/links/",
    "link": "/api/v1/repairs/{job}/links/{link}/",
    "token": "/api/v1/tokens/{token}/",
}
LISTS = [
    "/api/v1/models/", "/api/v1/datasets/", "/api/v1/uploads/", "/api/v1/direct-uploads/", "/api/v1/repairs/",
    "/api/v1/tokens/", "/api/v1/",
]  # fmt: skip
METHODS = {
    "model": {"get", "delete"},
    "dataset": {"get", "delete"},
    "upload": {"get", "head", "patch", "delete"},
    "direct upload": {"get", "delete"},
    "parts": {"post"},
    "complete": {"post"},
    "repair": {"get", "patch", "delete"},
    "cancel": {"post"},
    "retry": {"post"},
    "restore": {"post"},
    "gates": {"get", "post"},
    "events": {"get"},
    "result": {"get", "head"},
    "links": {"get", "post"},
    "link": {"delete"},
    "token": {"delete"},
}


def address(name: str, person) -> str:
    token = person.user.tokens.get()
    link, _ = ShareLink.objects.get_or_create(job=person.job, digest=str(person.job.pk))
    things = {"model": person.model.pk, "dataset": person.dataset.pk, "job": person.job.pk}
    if name == "upload":
        things["upload"] = resumable.create(owner=person.user, size=5, name="net.pth").pk
    if "{direct}" in URLS[name]:
        things["direct"] = resumable.create(owner=person.user, size=5, name="net.pth", begun="an id").pk
    return URLS[name].format(**things, token=token.pk, link=link.pk)


@pytest.mark.parametrize(("name", "method"), [(n, m) for n in URLS for m in sorted(METHODS[n])])
def test_another_users_id_is_not_found(world, name, method):
    world.bells.answer()
    answer = getattr(world.owner.api, method)(address(name, world.team_mate), headers=TUS)
    assert answer.status_code == 404
    missing = getattr(world.owner.api, method)(
        URLS[name].format(
            **dict.fromkeys(("model", "dataset", "upload", "direct", "job"), "0" * 8 + "-0000-4000-8000-" + "0" * 12),
            **dict.fromkeys(("token", "link"), 10**6),
        ),
        headers=TUS,
    )
    assert missing.status_code == 404
    if method != "head":  # word for word: the answer does not tell whether it exists
        assert answer.json() == missing.json()


@pytest.mark.parametrize(("name", "method"), [(n, m) for n in URLS for m in sorted(METHODS[n])])
def test_a_stranger_must_sign_in(world, name, method):
    answer = getattr(world.stranger, method)(address(name, world.owner))
    assert answer.status_code == 401
    assert "Bearer" in answer["WWW-Authenticate"]


@pytest.mark.parametrize("url", LISTS)
def test_lists_are_for_people_with_an_account(world, url):
    assert world.stranger.get(url).status_code == 401
    assert world.owner.api.get(url).status_code == 200


@pytest.mark.parametrize("name", URLS)
def test_wrong_methods(world, name):
    for method in {"get", "post", "put", "patch", "delete"} - METHODS[name]:
        answer = getattr(world.owner.api, method)(address(name, world.owner))
        assert answer.status_code == 405, method
        assert answer["Content-Type"] == "application/problem+json"


def test_lists_show_ones_own_things_only(world):
    for url, mine in (("models", world.owner.model), ("datasets", world.owner.dataset), ("repairs", world.owner.job)):
        rows = world.owner.api.get(f"/api/v1/{url}/").json()["results"]
        assert [row["id"] for row in rows] == [str(mine.pk)]


def test_unknown_addresses_of_the_api_answer_in_its_format(world):
    answer = world.owner.api.get("/api/v1/unicorns/")
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
