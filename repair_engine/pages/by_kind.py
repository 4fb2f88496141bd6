"""What the template `by_kind.html` needs beside the document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from repair_engine.pages import charts, rendering, row_charts
from repair_engine.pages.explain_wording import KIND
from repair_engine.pages.svg import responsive

if TYPE_CHECKING:
    from repair_engine.studies.explain_curves import CurveRow


def kinds_chart(rows: Sequence[CurveRow], heading: str) -> Markup:
    """The metric against the number of removed units, a line for each kind; rows are of one end."""
    ident = f"removal-{rows[0]['end'].split()[0]}-kinds"
    return responsive(lambda w: charts.removal(rows, "metric", heading, width=w, ident=ident))


BY_KIND: dict[str, Any] = {
    **rendering.named(kinds_chart, row_charts.histogram_chart, row_charts.filled),
    "KIND": KIND,
}
