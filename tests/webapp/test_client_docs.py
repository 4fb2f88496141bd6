"""The commands of docs/ci.md are ones that the client takes."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.webapp.real_stack import ROOT
from webapp.devserver.samples import client

TEXT = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
# A command ends with its line; in YAML's folded text, with the step.
COMMANDS = re.findall(r"^ *python clients/neuron_repair\.py ((?:.+\n)(?: {10}--.+\n)*)", TEXT, re.M)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda text: text.split()[0] if isinstance(text, str) else "")
def test_it_is_understood_with_its_gates(command):
    options = client().parser().parse_args(shlex.split(command))
    for gate in options.gate:
        client().parse_gate(gate)


def test_all_verbs_are_explained():
    assert len(COMMANDS) == TEXT.count("neuron_repair.py ") >= 6
    for verb in client().VERBS:
        assert re.search(rf"^\|.*`{verb}\b", TEXT, re.M), verb
