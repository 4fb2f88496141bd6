"""Why a library request is refused."""

from __future__ import annotations


class Refused(Exception):
    """`status` is the HTTP status that fits; `mend` says what the user can do."""

    def __init__(self, problem: str, mend: str = "", *, status: int = 400) -> None:
        super().__init__(problem)
        self.problem, self.mend, self.status = problem, mend, status

    @property
    def said(self) -> str:
        """All of it, for where there is one place for it."""
        return f"{self.problem} {self.mend}".strip()


class TooLarge(Refused):
    def __init__(self, name: str, size: int, cap: int) -> None:
        super().__init__(
            f"{name} has {size:,} bytes; the most that is accepted is {cap:,}.",
            "Send a smaller file, or ask the operator to raise the limit.",
            status=413,
        )


class InUse(Refused):
    def __init__(self, what: str, jobs: list[str]) -> None:
        super().__init__(
            f"{what} is used by {len(jobs)} repair(s): {', '.join(jobs[:5])}.",
            "Delete those repairs first.",
            status=409,
        )


class Miswritten(Refused):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"What is on the server's disk as {name} is not what was written there.",
            "Try again; if that does not help, ask the operator to check the disk.",
            status=500,
        )
