"""Pages in Markdown: what they link to is there, and docs/README.md names every page."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for path in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if not path.startswith(".")
)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for to, anchor in LINK.findall(text):
        if "://" in to or to.startswith("mailto:"):
            continue
        target = (ROOT / page).parent / to if to else ROOT / page
        assert target.exists(), to
        assert not anchor or anchor in anchors(target), f"{to}#{anchor}"


def test_every_page_of_docs_is_in_its_list() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    missing = [page for page in PAGES if page.startswith("docs/") and f"({Path(page).name})" not in text]
    assert missing == ["docs/README.md"]
