"""Runs with what they are made of, and what is kept beside them."""

from webapp.jobs.models.beside import Baseline, GateCheck, Receipt, ShareLink, SigningKey, UnitStudy, WhatIf
from webapp.jobs.models.fairness import Allowance, Lane, Share
from webapp.jobs.models.runs import (
    FINISH,
    PREPARE,
    WRITTEN,
    Artifact,
    Delivery,
    Event,
    Job,
    PhaseState,
    Release,
    Shard,
    Tag,
    Worker,
    gain_of,
)

__all__ = [
    "FINISH",
    "PREPARE",
    "WRITTEN",
    "Allowance",
    "Artifact",
    "Baseline",
    "Delivery",
    "Event",
    "GateCheck",
    "Job",
    "Lane",
    "PhaseState",
    "Receipt",
    "Release",
    "Shard",
    "Share",
    "ShareLink",
    "SigningKey",
    "Tag",
    "UnitStudy",
    "WhatIf",
    "Worker",
    "gain_of",
]
