"""Which reports the dashboard shows, in which order, and what a click on a row does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Rows of a panel before it says how many more there are.
ROWS: Final = 8


@dataclass(frozen=True, slots=True)
class Panel:
    """A report as a panel: what its first column is, and the filter that a click on a row sets."""

    report: str
    label: str
    filter: str = ""
    figure: str = ""  # the column that its bars show; "" for the one that the report counts by


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under one heading."""

    name: str
    panels: tuple[Panel, ...]


SECTIONS: Final = (
    Section(
        "content",
        (
            Panel("pages", "page", "route"),
            Panel("entry", "page", "route"),
            Panel("exit", "page", "route"),
            Panel("kinds", "kind", "kind"),
            Panel("searches", "page", "route"),
            Panel("downloads", "page", "route"),
        ),
    ),
    Section(
        "sources",
        (
            Panel("channels", "channel", "channel"),
            Panel("referrers", "referrer", "referrer"),
            Panel("campaigns", "campaign", "campaign"),
        ),
    ),
    Section(
        "visitors",
        (
            Panel("countries", "country", "country"),
            Panel("networks", "network_class", "network_class"),
            Panel("languages", "language", "language"),
            Panel("weekdays", "weekday"),
        ),
    ),
    Section(
        "technology",
        (
            Panel("devices", "device", "device"),
            Panel("browsers", "browser", "browser"),
            Panel("systems", "os", "os"),
        ),
    ),
    Section(
        "service",
        (
            Panel("errors", "status", "status"),
            Panel("broken_links", "referrer"),
            Panel("failing_pages", "page", "route"),
            Panel("response_times", "from_ms"),
            Panel("transfer", "kind", "kind", figure="bytes"),
            Panel("bots", "bot"),
        ),
    ),
    Section("privacy", (Panel("privacy", "hidden"),)),
)
PANELS: Final[Mapping[str, Panel]] = {panel.report: panel for section in SECTIONS for panel in section.panels}
