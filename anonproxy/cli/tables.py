"""Draw reports on a terminal, or write them as CSV or JSON."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import date
from typing import Final

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from anonproxy.reports.run import Report, Value

BAR_WIDTH: Final = 24
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_SPARKS: Final = "▁▂▃▄▅▆▇█"


def render_csv(reports: Sequence[Report]) -> str:
    """Render reports as CSV, each with its header; several are set apart by an empty line and their title."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for index, report in enumerate(reports):
        if len(reports) > 1:
            out.write(f"{'' if index == 0 else chr(10)}# {report.title}\n")
        writer.writerow(report.columns)
        writer.writerows(report.rows)
    return out.getvalue()


def render_json(reports: Sequence[Report], period: str, site: str | None) -> str:
    """Render reports as one JSON object: the period, the site, and each report's rows by name."""
    tables = {r.name: [dict(zip(r.columns, row, strict=True)) for row in r.rows] for r in reports}
    return json.dumps({"period": period, "site": site, "reports": tables}, indent=2, default=_isoformat)


def render_table(report: Report, limit: int) -> RenderableType:
    """Draw a report with a bar for its first figure; rows past the limit are gathered in a line that says so."""
    table = Table(box=box.SIMPLE_HEAD, title=report.title, title_justify="left", title_style="bold", pad_edge=False)
    figures = report.columns[1:]
    table.add_column(report.columns[0].replace("_", " "), overflow="fold", max_width=46, min_width=16)
    for name in figures:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    largest = max((_figure(row[1]) for row in report.rows), default=0) if figures else 0
    for row in report.rows[:limit]:
        bar = render_bar(_figure(row[1]), largest) if figures else ""
        table.add_row(_label(row[0]), *(_format(value) for value in row[1:]), Text(bar, style="cyan"))
    if len(report.rows) > limit:
        table.caption = f"{len(report.rows) - limit} more rows: --limit {len(report.rows)}, or --format csv"
        table.caption_justify = "left"
    return table


def render_figures(report: Report) -> RenderableType:
    """Draw a report of one row as a strip of figures."""
    strip = Table(box=box.ROUNDED, show_header=True, header_style="dim", padding=(0, 1))
    row = report.rows[0] if report.rows else ()
    for name in report.columns:
        strip.add_column(_LABELS.get(name, name.replace("_", " ")), justify="center")
    strip.add_row(
        *(Text(_format_figure(name, value), style="bold") for name, value in zip(report.columns, row, strict=True))
    )
    return strip


def render_bar(value: float, largest: float, width: int = BAR_WIDTH) -> str:
    """Draw a bar in eighths of a character."""
    eighths = round(value / largest * width * 8) if largest else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def render_sparkline(values: Sequence[float]) -> str:
    """Draw a row of small columns."""
    largest = max(values, default=0)
    return "".join(_SPARKS[round(value / largest * (len(_SPARKS) - 1))] if largest else _SPARKS[0] for value in values)


def print_reports(console: Console, reports: Sequence[Report], limit: int) -> None:
    """Print reports one after the other: figures as strips, everything else as tables, empty ones by name."""
    for report in reports:
        if report.name == "overview":
            console.print(render_figures(report))
        elif report.rows:
            console.print(render_table(report, limit))
    empty = [report.title for report in reports if not report.rows]
    if empty:
        console.print(f"[dim]Nothing in this period for: {'; '.join(empty)}.[/]")


_LABELS: Final = {
    "pages_per_visit": "per visit",
    "bounce_percent": "bounces",
    "seconds_per_visit": "duration",
    "robot_requests": "by robots",
}


def _format_figure(name: str, value: Value) -> str:
    if value is None:
        return "–"
    if name == "bounce_percent":
        return f"{_figure(value):.0f} %"
    if name == "seconds_per_visit":
        minutes, seconds = divmod(round(_figure(value)), 60)
        return f"{minutes} min {seconds:02} s"
    return _format(value)


def _format(value: Value) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:,.1f}"
        case int():
            return f"{value:,}"
        case _:
            return str(value)


def _label(value: Value) -> Text:
    text = "people" if value == "" else str(value)
    return Text(text, style="dim" if text.startswith("(") else "")


def _figure(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _isoformat(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError
