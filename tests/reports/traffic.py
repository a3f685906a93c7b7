"""Traffic whose totals are known: what is sent, beside a record of our own of what it is.

The record is what a person with a notebook would write down; it is made before anonproxy sees anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from math import exp, log
from pathlib import Path
from random import Random
from typing import Any, Final

from anonproxy.anonymize.request import RawRequest
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.settings import Settings
from tests.ingest.recorders import World

DAY_S: Final = 86_400
HOUR_S: Final = 3_600
FIRST: Final = int(datetime(2026, 10, 29, tzinfo=UTC).timestamp())  # three days later a month begins

HOSTS: Final = {"www": "www.example.org", "catalog": "catalog.example.org"}
# path as it is sent, page, kind
PAGES: Final = (
    ("/", "/", "page"),
    ("/events", "/events", "page"),
    ("/hours", "/hours", "page"),
    ("/search?q=secret", "/search", "search"),
    ("/record/4711", "/record/{id}", "item"),
    ("/files/4711.pdf", "/files/{file}", "download"),
    ("/static/site.css", "/static/**", "asset"),
)
# Browser as it says itself, browser, system, device
AGENTS: Final = (
    ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
     "Chrome", "Windows", "desktop"),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox", "Linux", "desktop"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 "
     "Mobile/15E148 Safari/604.1", "Safari", "iOS", "phone"),
)  # fmt: skip
# Network, country, class
NETWORKS: Final = (
    ("12.34.{0}.{1}", "US", "remote"),
    ("50.200.{0}.{1}", "US", "in-library"),
    ("24.48.{0}.{1}", "CA", "remote"),
    ("87.150.{0}.{1}", "DE", "remote"),
)
# Link that was followed, referrer, channel; the query it adds, campaign
SOURCES: Final = (
    ("", "(direct)", "direct", "", None),
    ("https://www.google.com/search?q=secret", "google.com", "search", "", None),
    ("https://www.facebook.com/", "facebook.com", "social", "", None),
    ("https://partner.example.com/page/7", "partner.example.com", "other", "", None),
    ("", "(direct)", "email", "utm_source=list&utm_medium=email&utm_campaign=autumn", "autumn"),
)
LANGUAGES: Final = (("en-US,en;q=0.9", "en"), ("es", "es"), ("pl", "pl"), ("nah", "other"))
ROBOTS: Final = (
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "search"),
    ("GPTBot/1.2", "ai"),
)
MONITOR: Final = ("UptimeRobot/2.0", "monitor")
HEARTBEAT_S: Final = 240
# Lower bounds that the documentation gives for times (ms) and for lengths of visits (s).
DURATIONS_MS: Final = (0, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000)
ELAPSED_S: Final = (0, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 10_800)


@dataclass(frozen=True)
class Seen:
    """One request, as our own record has it."""

    time_s: int
    site: str
    visit: int | None
    elapsed_s: int
    page: str
    kind: str
    status: int
    referrer: str
    channel: str
    campaign: str | None
    browser: str
    os: str
    device: str
    country: str
    network_class: str
    language: str
    bot: str
    size_bytes: int
    duration_ms: int
    opted_out: bool = False

    @property
    def day(self) -> date:
        """Give its day."""
        return datetime.fromtimestamp(self.time_s, UTC).date()

    @property
    def hour(self) -> str:
        """Give its hour."""
        return f"{self.time_s // HOUR_S % 24:02}"

    @property
    def is_pageview(self) -> bool:
        """Tell whether a person saw a page."""
        return not self.bot and self.status == 200 and self.kind in {"page", "search", "item", "download"}


def settings(root: Path) -> Settings:
    """Return the settings of a library with two sites."""
    routes = [{"path": page, "kind": kind} for _, page, kind in PAGES if page != "/"]
    sites = [
        {
            "name": name,
            "hosts": [host],
            "upstream": "http://127.0.0.1:9",
            "sitemap": "",
            "routes": routes,
            "campaigns": ["autumn"],
            "referrers": ["partner.example.com"],
        }
        for name, host in HOSTS.items()
    ]
    return Settings.model_validate(
        {
            "store": {"path": str(root)},
            "privacy": {"time_zone": "UTC", "languages": ["en", "es", "pl"]},
            "network_classes": {"in-library": ["50.200.0.0/16"]},
            "sites": sites,
        }
    )


def invent(random: Random, days: int, visits_a_day: int) -> Iterator[tuple[Seen, RawRequest]]:
    """Invent some days of visits and robots, in the order of time."""
    made = []
    number = 0
    for day in range(days):
        for _ in range(random.randint(visits_a_day * 3 // 4, visits_a_day * 5 // 4)):
            number += 1
            made += list(_visit(random, number, FIRST + day * DAY_S))
        made += [_robot(random, FIRST + day * DAY_S) for _ in range(random.randint(0, visits_a_day))]
        # So regularly that the recorder sees time pass: it takes five minutes of silence for a machine that slept.
        made += [_robot(random, FIRST + day * DAY_S, seconds) for seconds in range(0, DAY_S, HEARTBEAT_S)]
    yield from sorted(made, key=lambda pair: pair[1].time_s)


def _pick(random: Random, choices: Any) -> Any:
    """Pick the first ones often and the last ones seldom, as the world does."""
    return choices[min(int(random.expovariate(1.1)), len(choices) - 1)]


def _length(random: Random) -> int:
    """Invent a length: as often between one and two kilobytes as between ten and twenty, as files are."""
    return int(exp(random.uniform(log(300), log(90_000))))


def _visit(random: Random, number: int, midnight_s: int) -> Iterator[tuple[Seen, RawRequest]]:
    site = "www" if random.random() < 0.8 else "catalog"
    agent, browser, system, device = _pick(random, AGENTS)
    network, country, network_class = _pick(random, NETWORKS)
    link, referrer, channel, query, campaign = _pick(random, SOURCES)
    wanted, language = _pick(random, LANGUAGES)
    is_opted_out = random.random() < 0.1
    start_s = midnight_s + int(random.triangular(5 * HOUR_S, DAY_S - 2 * HOUR_S, 14 * HOUR_S))  # the key ends at 4
    elapsed_s = 0
    for step in range(min(1 + int(random.expovariate(0.6)), 12)):
        target, page, kind = PAGES[0] if step == 0 and random.random() < 0.6 else _pick(random, PAGES)
        status = 200 if step == 0 else random.choices((200, 404, 500), (92, 5, 3))[0]
        size, duration_ms = _length(random), int(random.expovariate(0.01))
        if step:
            elapsed_s += random.randrange(1, 400)
        raw = RawRequest(
            start_s + elapsed_s,
            network.format(number // 250, number % 250),
            raw_host=HOSTS[site],
            raw_target=target if step or not query else f"{target}{'&' if '?' in target else '?'}{query}",
            status=status,
            size_bytes=size,
            duration_s=duration_ms / 1000,
            raw_user_agent=agent,
            raw_referrer=link if step == 0 else f"https://{HOSTS[site]}/",
            raw_accept_language=wanted,
            is_opted_out=is_opted_out,
        )
        yield (
            Seen(
                start_s + elapsed_s,
                site,
                None if is_opted_out else number,
                max(bound for bound in ELAPSED_S if bound <= elapsed_s),
                "(unmatched)" if status == 404 else page,
                kind,
                status,
                referrer if step == 0 else "(internal)",
                channel if step == 0 else "internal",
                campaign if step == 0 else None,
                browser,
                system,
                device,
                country,
                network_class,
                language,
                "",
                size,
                max(bound for bound in DURATIONS_MS if bound <= duration_ms),
                is_opted_out,
            ),
            raw,
        )


def _robot(random: Random, midnight_s: int, at_s: int | None = None) -> tuple[Seen, RawRequest]:
    agent, bot = _pick(random, ROBOTS) if at_s is None else MONITOR
    target, page, kind = _pick(random, PAGES)
    time_s, size = midnight_s + (random.randrange(DAY_S) if at_s is None else at_s), _length(random)
    raw = RawRequest(
        time_s, "192.0.2.9", raw_host=HOSTS["www"], raw_target=target, status=200, size_bytes=size, raw_user_agent=agent
    )
    nothing = Seen(
        time_s, "www", None, 0, page, kind, 200, "(direct)", "direct", None, "Other", "Other", "other", "??", "remote",
        "other", bot, size, 0,
    )  # fmt: skip
    return nothing, raw


def record(root: Path, traffic: list[tuple[Seen, RawRequest]], settles: bool) -> list[Seen]:
    """Send traffic through the anonymiser into a store, as the proxy does; let it settle, or stay hot."""
    world = World(float(FIRST))
    recorder = Recorder(settings(root), world.clock, world.steady)
    day = FIRST
    for _, raw in traffic:
        world.wait(max(0.0, raw.time_s - world.time_s))
        if settles and world.time_s - day > DAY_S:
            day += DAY_S
            recorder.tick()
            recorder.keep_house()
        recorder.record(raw)
    recorder.tick()
    if settles:
        world.wait(2.0 * DAY_S)
        recorder.tick()
        recorder.keep_house()
    counts = recorder.counts
    recorder.close()
    assert counts["received"] == counts["written"] + counts["pending"] == len(traffic), counts
    return [replace(seen) for seen, _ in traffic]
