"""Draw reports on a terminal, or write them as CSV, JSON, Parquet or Markdown."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from anonproxy.model.vocabularies import OTHER
from anonproxy.reports.run import Query, Report, Row, Value, count_labels, find_definition

BAR_WIDTH: Final = 24
LEAST_BAR: Final = 6
LEAST_LABEL: Final = 12
MOST_LABEL: Final = 46
# Rows on a terminal, unless told: of what comes in time, a month of days and a day of hours are shown whole.
ROWS: Final = 12
ROWS_IN_TIME: Final = {"days": 31, "months": 25, "weekdays": 7, "hours": 25, "response_times": 13}

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_SPARKS: Final = "▁▂▃▄▅▆▇█"
_PREVIOUS: Final = "previous_"


# --- For programs ---


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


def render_json(reports: Sequence[Report], query: Query) -> str:
    """Render reports as one JSON object: the period, the site, the filters, and each report's rows by name."""
    answer = {
        "since": query.period.since,
        "until": query.period.until,
        "site": query.site,
        "where": dict(query.where),
        "reports": {report.name: report.records() for report in reports},
    }
    return json.dumps(answer, indent=2, default=_isoformat)


def render_parquet(table: pa.Table) -> bytes:
    """Render a table as the bytes of a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def render_markdown(reports: Sequence[Report]) -> str:
    """Render reports as Markdown, each under its title."""
    parts = []
    for report in reports:
        rows = ([format_value(name, value) for name, value in _pairs(report, row)] for row in report.rows)
        table = render_markdown_table(report.columns, rows, count_labels(report.columns))
        parts.append(f"## {report.title}\n\n{report.description}\n\n{table}")
    return "\n".join(parts)


def render_markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], labels: int) -> str:
    """Render a table as Markdown, with what follows the labels aligned to the right."""
    rule = ["---" if index < labels else "--:" for index in range(len(columns))]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in ([*map(_title, columns)], rule, *escaped))


def _pairs(report: Report, row: Row) -> list[tuple[str, Value]]:
    return list(zip(report.columns, row, strict=True))


def _isoformat(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError


# --- On a terminal ---


def print_reports(console: Console, reports: Sequence[Report], limit: int | None) -> None:
    """Print reports one after the other, and those that have nothing to show by their titles."""
    for report in reports:
        if report.rows:
            console.print(draw(report, console.width, limit))
    empty = [report.title for report in reports if not report.rows]
    if empty:
        why = (
            "Not known of a part of the visits, or too few" if reports[0].query.where else "Nothing in this period for"
        )
        console.print(f"[dim]{why}: {', '.join(empty)}.[/]")


def draw(report: Report, width: int, limit: int | None) -> RenderableType:
    """Draw a report as what suits it: figures, hours of the week, or a table with bars."""
    match report.name:
        case "overview":
            return draw_figures(report, width)
        case "weekday_hours":
            return draw_week(report)
        case _:
            return draw_table(report, width, limit or ROWS_IN_TIME.get(report.name, ROWS))


def draw_figures(report: Report, width: int) -> RenderableType:
    """Draw a report of one row as a strip of figures, with what they were before; in a narrow window as a list."""
    figures = {name: value for name, value in _pairs(report, report.rows[0]) if not name.startswith(_PREVIOUS)}
    before = {name: value for name, value in _pairs(report, report.rows[0]) if name.startswith(_PREVIOUS)}
    cells = {
        _title(name): (format_value(name, value), _change(value, before.get(_PREVIOUS + name)) if before else None)
        for name, value in figures.items()
    }
    strip_width = 1 + sum(max(len(name), len(value), 6) + 3 for name, (value, _) in cells.items())
    if strip_width > width:
        listed = Table.grid(padding=(0, 2))
        listed.add_column()
        listed.add_column(justify="right")
        for name, (value, change) in cells.items():
            listed.add_row(name, Text(value, "bold"), change or "")
        return listed
    strip = Table(box=box.ROUNDED, header_style="dim", padding=(0, 1))
    for name in cells:
        strip.add_column(name, justify="center", no_wrap=True)
    strip.add_row(*(Text(value, "bold") for value, _ in cells.values()))
    if before:
        strip.add_row(*(change or "" for _, change in cells.values()))
    return strip


def draw_week(report: Report) -> RenderableType:
    """Draw hours of the week as a line of small columns for each day."""
    figure = report.columns.index(report.counted)
    busy = {row[:2]: _number(row[figure]) for row in report.rows}
    largest = max((value for (_, hour), value in busy.items() if hour != OTHER), default=0)
    if not largest:
        return _under_title(report, [Text("No hour of any day had enough visits to be told.", "dim")])
    lines = [Text("     0     6     12    18", "dim")]
    for weekday in dict.fromkeys(row[0] for row in report.rows):
        hours = [busy.get((weekday, f"{hour:02}"), 0.0) for hour in range(24)]
        lines.append(Text(f"{str(weekday)[:3]}  ") + Text(render_sparkline(hours, largest), "cyan"))
    return _under_title(report, lines)


def draw_table(report: Report, width: int, limit: int) -> RenderableType:
    """Draw a report as a table, with a bar for its first figure where there is room.

    Rows past the limit are left out, and a line says so.
    """
    rows = report.rows[-limit:] if find_definition(report.name).is_series else report.rows[:limit]
    labels = count_labels(report.columns)
    columns = [_draw_label(report.columns[0], [row[:labels] for row in rows])]
    first = 0
    for index in range(labels, len(report.columns)):
        values = [row[index] for row in rows]
        if not report.columns[index].startswith(_PREVIOUS) and any(value is not None for value in values):
            first = first or index
            columns.append(_draw_figures(report.columns[index], values))
            if _PREVIOUS + report.columns[index] in report.columns:
                before = report.columns.index(_PREVIOUS + report.columns[index])
                columns.append([Text(""), *(_change(row[index], row[before]) for row in rows)])
    widths = [max(cell.cell_len for cell in column) for column in columns]
    while len(widths) > 2 and LEAST_LABEL + sum(widths[1:]) + 2 * len(widths[1:]) > width:
        widths.pop()
    others = sum(widths[1:]) + 2 * len(widths[1:])
    widths[0] = min(max(widths[0], LEAST_LABEL), MOST_LABEL, max(width - others, LEAST_LABEL))
    room = width - widths[0] - others - 2
    bar = min(room, BAR_WIDTH) if first and room >= LEAST_BAR else 0
    largest = max((_number(row[first]) for row in report.rows), default=0)
    lines = []
    for place, cells in enumerate(zip(*columns[: len(widths)], strict=True)):
        line = _fit(cells[0], widths[0])
        for cell, cell_width in zip(cells[1:], widths[1:], strict=True):
            line.append(" " * (2 + cell_width - cell.cell_len)).append_text(cell)
        if place == 0:
            line.stylize("dim")
        elif bar:
            line.append("  ").append(render_bar(_number(rows[place - 1][first]), largest, bar), "cyan")
        line.rstrip()
        lines.append(line)
    more = len(report.rows) - len(rows)
    if more:
        lines.append(Text(f"{more} more: --limit {len(report.rows)}, or --format csv", "dim"))
    return _under_title(report, lines)


def _draw_label(title: str, labels: Sequence[Row]) -> list[Text]:
    texts = [" ".join(f"{part:%Y-%m-%d %a}" if isinstance(part, date) else str(part) for part in row) for row in labels]
    return [Text(_title(title)), *(Text(text, "dim" if text.startswith("(") else "") for text in texts)]


def _draw_figures(name: str, values: Sequence[Value]) -> list[Text]:
    return [Text(_title(name)), *(Text(format_value(name, value)) for value in values)]


def _fit(text: Text, width: int) -> Text:
    fitted = text.copy()
    fitted.truncate(width, overflow="ellipsis", pad=True)
    return fitted


def _under_title(report: Report, lines: Sequence[Text]) -> RenderableType:
    return Group("", Text(report.title, "bold"), *lines)


def _change(value: Value, before: Value) -> Text:
    """Say by how much a figure has changed."""
    if value is None or not _number(before):  # perhaps it was part of (other): nobody can say that it is new
        return Text()
    percent = round(100 * (_number(value) / _number(before) - 1))
    return Text(f"{percent:+,} %", "dim" if not percent else "green" if percent > 0 else "yellow")


def render_bar(value: float, largest: float, width: int = BAR_WIDTH) -> str:
    """Draw a bar in eighths of a character."""
    eighths = round(value / largest * width * 8) if largest else 0
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def render_sparkline(values: Sequence[float], largest: float | None = None) -> str:
    """Draw a row of small columns."""
    top = max(values, default=0) if largest is None else largest
    return "".join(_SPARKS[round(value / top * (len(_SPARKS) - 1))] if top else _SPARKS[0] for value in values)


# --- Words and figures ---

_TITLES: Final = {
    "pages_per_visit": "per visit",
    "bounce_percent": "bounces",
    "seconds_per_visit": "duration",
    "robot_requests": "robots",
    "from_ms": "from ms",
    "network_class": "network",
}


def _title(column: str) -> str:
    name = column.removeprefix(_PREVIOUS)
    title = _TITLES.get(name, name.replace("_", " "))
    return f"{title} before" if name != column else title


def format_value(column: str, value: Value) -> str:
    """Write a figure as its column wants it."""
    name = column.removeprefix(_PREVIOUS)
    match value:
        case None:
            return "–"
        case int() | float() if name.endswith("_percent"):
            return f"{value:.0f} %"
        case int() | float() if name.startswith("seconds_"):
            minutes, seconds = divmod(round(value), 60)
            return f"{minutes} min {seconds:02} s"
        case int() if name == "bytes":
            return format_bytes(value)
        case float():
            return f"{value:,.1f}"
        case int():
            return f"{value:,}"
        case _:
            return str(value)


def format_bytes(size: float) -> str:
    """Write a number of bytes in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.0f} {unit}" if unit == "B" or size >= 100 else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _number(value: Value) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
