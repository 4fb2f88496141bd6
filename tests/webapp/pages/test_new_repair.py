"""The form of a repair offers what model and dataset have, and asks for what the API would ask for."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.webapp.pages.helpers import read
from webapp.jobs.models import Job
from webapp.pages.forms.repairs import initial_from
from webapp.pages.snippets import _command

NEW = "/repairs/new/"


@pytest.fixture
def owner(world):
    one = world.owner
    one.model.class_names = ["coat", "shirt"]
    one.model.save()
    one.dataset.facts = {"images": 90, "folders": {"coat": 50, "shirt": 40}, "columns": {"ground": {"dark": 90}}}
    one.dataset.save()
    return one


def send(one, follow: bool = False, **changes: object):
    data = {"model": one.model.pk, "dataset": one.dataset.pk, "metric": "accuracy", **changes}
    return one.browser.post(NEW, data, follow=follow)


def made(one) -> Job:
    return Job.objects.filter(owner=one.user).exclude(pk=one.job.pk).get()


def test_choices_come_from_the_uploads(owner):
    page = read(owner.browser.get(NEW))
    values = [a.get("value") for a in page.all("option")]
    assert {"coat", "shirt", "ground", str(owner.model.pk), str(owner.dataset.pk)} <= set(values)
    checked = [a["value"] for a in page.all("input") if a.get("name") == "metric" and "checked" in a]
    assert checked == ["subgroup-recall"], "there is a column, so fairness is asked about first"
    defaults = {a.get("name"): a.get("value") for a in page.all("input")}
    assert (defaults["max_clean_drop"], defaults["max_filters"], defaults["seed"]) == ("2", "50", "0")
    assert defaults["budget"] is None


def test_without_columns_there_are_no_subgroups_to_choose(world):
    page = read(world.owner.browser.get(NEW))
    radio = next(a for a in page.all("input") if a.get("value") == "subgroup-recall")
    assert "disabled" in radio
    answer = send(world.owner, metric="subgroup-recall")
    assert "there are no subgroups" in read(answer, 422).text


def test_everything_that_is_asked_reaches_the_repair(owner):
    answer = send(
        owner, metric="subgroup-recall", column="ground", max_clean_drop="1.5", max_subgroup_drop="7", max_filters="9",
        choose="one-se", goal="gap", order="value", constant="bn_beta", precision="bfloat16", memory="3G",
        budget="50000", seed="7", estimator="tmab", top_k="4", side="both", batch_size="8", group="ground", name="Mine",
        epsilon="8", attack="standard",
    )  # fmt: skip
    job = made(owner)
    assert answer["Location"] == reverse("pages:repair", args=[job.pk])
    assert job.name == "Mine"
    assert job.request == {
        "metric": "subgroup-recall:ground", "max_clean_drop": 0.015, "max_subgroup_drop": 0.07, "max_filters": 9,
        "choose": "one-se", "goal": "gap", "order": "value", "constant": "bn_beta", "precision": "bfloat16",
        "memory": "3G", "budget": 50000, "seed": 7, "estimator": "tmab", "top_k": 4, "side": "both", "batch_size": 8,
        "group": "ground",
    }  # fmt: skip


@pytest.mark.parametrize("goal", ["worst-group", "gap", "equalized-odds"])
def test_a_goal_over_subgroups_needs_subgroups(owner, goal):
    page = read(owner.browser.get(NEW))
    assert goal in [a.get("value") for a in page.all("option")]
    page = read(send(owner, metric="accuracy", goal=goal), 422)
    assert "accuracy has no subgroups" in page.text
    assert not Job.objects.filter(owner=owner.user).exclude(pk=owner.job.pk).exists()


def test_attack_settings_go_with_attack_success(owner):
    send(owner, metric="attack-success", epsilon="8", steps="12", attack="standard", attack_images="40")
    asked = made(owner).request
    assert asked["epsilon"] == pytest.approx(8 / 255)
    assert (asked["attack"], asked["steps"], asked["attack_images"]) == ("standard", 12, 40)


def test_the_adversary_of_ones_own(owner):
    send(
        owner, metric="attack-success", norm="l2", epsilon="127.5", attack="standard", targeted="yes", restarts="3",
        queries="200", step_size="12.75", random_start="yes", subset="30",
    )  # fmt: skip
    job = made(owner)
    asked = job.request
    assert (asked["norm"], asked["epsilon"]) == ("l2", pytest.approx(0.5))
    assert (asked["targeted"], asked["restarts"], asked["queries"]) == (True, 3, 200)
    assert (asked["step_size"], asked["random_start"], asked["subset"]) == (pytest.approx(0.05), True, 30)
    again = initial_from(job)
    assert (again["step_size"], again["random_start"], again["subset"]) == (pytest.approx(12.75), "yes", 30)
    assert (again["targeted"], again["norm"], again["epsilon"]) == ("yes", "l2", pytest.approx(127.5))
    command = _command(job, asked)
    assert "--targeted" in command
    assert "--norm l2" in command
    assert "--untargeted" in _command(job, {"targeted": False})
    assert "--no-random-start" in _command(job, {"random_start": False})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": "recall"}, "Say which class"),
        ({"metric": "recall", "class_name": "hat"}, "There is no class 'hat'. There are: coat, shirt."),
        ({"metric": "beauty"}, "not one of the available choices"),
        ({"budget": "3"}, "3 is not between 1000"),
        ({"max_clean_drop": "101"}, "101 is not between 0 and 100"),
        ({"seed": "-1"}, "-1 is not between 0"),
        ({"top_k": "100000"}, "100000 is not between"),
        ({"metric": "attack-success", "epsilon": "256"}, "is not between 0 and 1"),
        ({"metric": "attack-success", "norm": "l2"}, "In l2 an ε is needed"),
        ({"metric": "attack-success", "norm": "l2", "epsilon": "0.5"}, "less than one grey level"),
        ({"metric": "attack-success", "restarts": "2"}, "Without a random start"),
        ({"metric": "attack-success", "queries": "1"}, "the clean image only"),
    ],
)
def test_what_cannot_be_asked_is_said(owner, changes, said):
    page = read(send(owner, **changes), 422)
    assert said in page.text
    assert Job.objects.filter(owner=owner.user).count() == 1


def test_sent_twice_it_starts_once(owner):
    first = send(owner, key="page-1")
    second = send(owner, key="page-1")
    assert first["Location"] == second["Location"]
    made(owner)
    assert send(owner, key="page-1", seed="8")["Location"] != first["Location"], "gone back and changed"


def test_an_upload_that_is_not_ready_is_not_offered(owner):
    owner.dataset.state = "validating"
    owner.dataset.save()
    page = read(owner.browser.get(NEW))
    assert "A repair needs a model and a dataset that have been checked" in page.text
    assert "still being checked" in read(send(owner), 422).text


def test_asked_again_it_is_filled_in_as_it_was(owner):
    send(owner, metric="recall", class_name="shirt", max_clean_drop="1.5", seed="7", budget="50000", name="Mine")
    page = read(owner.browser.get(NEW, {"like": made(owner).pk}))
    fields = {a.get("name"): a.get("value") for a in page.all("input") if a.get("type") != "radio"}
    shown = [fields[key] for key in ("class_name", "max_clean_drop", "seed", "budget", "name")]
    assert shown == ["shirt", "1.5", "7", "50000", "Mine"]
    assert [a["value"] for a in page.all("input") if a.get("name") == "metric" and "checked" in a] == ["recall"]


def test_a_guard_set_can_be_chosen(world, owner):
    from tests.webapp.helpers import ready_dataset

    guard = ready_dataset(owner.user, b"guard")
    assert str(guard.pk) in [
        a.get("value") for a in read(owner.browser.get(NEW, {"dataset": owner.dataset.pk})).all("option")
    ]
    send(owner, guard=guard.pk)
    assert made(owner).guard == guard


def test_several_columns(owner):
    columns = {"ground": {"dark": 60, "light": 30}, "sex": {"f": 45, "m": 45}, "a,b": {"x": 90}}
    owner.dataset.facts |= {"columns": columns, "column_order": list(columns)}
    owner.dataset.save()
    page = read(owner.browser.get(NEW))
    boxes = [a for a in page.all("input") if a.get("name") == "column"]
    assert [(a["type"], a["value"]) for a in boxes] == [
        ("checkbox", "ground"),
        ("checkbox", "sex"),
        ("checkbox", "a,b"),
    ]
    assert ["checked" in a for a in boxes] == [True, False, False]
    send(owner, metric="subgroup-recall", column=["ground", "a,b"])
    job = made(owner)
    assert job.request["metric"] == 'subgroup-recall:ground,"a,b"'
    assert initial_from(job)["column"] == ["ground", "a,b"]
    again = read(owner.browser.get(f"{NEW}?like={job.pk}"))
    ticked = [a["value"] for a in again.all("input") if a.get("name") == "column" and "checked" in a]
    assert ticked == ["ground", "a,b"]


def test_no_column_ticked_or_one_that_is_not_there(owner):
    assert "Tick a column, or several." in read(send(owner, metric="subgroup-recall"), 422).text
    assert "breed" in read(send(owner, metric="subgroup-recall", column=["ground", "breed"]), 422).text


def test_what_cannot_be_repaired_is_listed_before_the_start(owner):
    reason = "it has neither a bias nor a norm of its own to carry the mean, and it also goes into mul"
    owner.model.facts = {
        "filters": 96,
        "sites": [{"name": "stem", "filters": 96, "norm": "batch", "activation": "relu"}],
        "parameter_share": 0.873,
        "not_players": [{"name": "blocks.3.fc", "channels": 24, "reason": reason}],
    }
    owner.model.save()
    text = read(owner.browser.get(NEW)).text
    assert "96 filters at 1 sites, 87.3% of the parameters" in text
    assert "What cannot be repaired exactly: 1 convolution, with the reason" in text
    assert f"blocks.3.fc (24 channels): {reason}" in " ".join(text.split())
    owner.model.facts["not_players"] = []
    owner.model.save()
    assert "Every convolution's filters are among them." in read(owner.browser.get(NEW)).text
