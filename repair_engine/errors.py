"""Errors that a user can act on. Every message names what is wrong and how to mend it."""

from __future__ import annotations


class BadInput(ValueError):
    """The input cannot be used as it is.

    Args:
        problem: what is wrong, naming the file, tensor, class or option, in one or two sentences.
        mend: what the user can do about it; may span lines (code to paste).
        field: the option that is wrong, where it is one (`repair_engine.settings`); `problem` then leaves its name to
            whoever shows it: the command line has flags, a form has labels.
    """

    def __init__(self, problem: str, mend: str = "", field: str = "") -> None:
        super().__init__((f"{field}: " if field else "") + (f"{problem}\n{mend}" if mend else problem))
        self.problem = problem
        self.mend = mend
        self.field = field

    @property
    def said(self) -> str:
        """Problem and mend, for where there is one place for both, beside the option's name."""
        return f"{self.problem} {self.mend}".strip()

    @property
    def whole(self) -> str:
        """The problem with the option's name, for where nothing else says which it is."""
        return f"{self.field}: {self.problem}" if self.field else self.problem


class NoPlayers(BadInput):
    """The network has no filter that can be ablated and written back exactly."""


class VerificationFailed(RuntimeError):
    """The written checkpoint, reloaded in a fresh process, does not reproduce the measured predictions.

    Nothing is exported then: a checkpoint that does not give the reported numbers is worse than none.
    """


class Cancelled(Exception):
    """Raised from a progress callback to stop work between two batches."""


class SandboxTooWeak(RuntimeError):
    """The process that reads uploads cannot be shut in as far as the operator asks for."""
