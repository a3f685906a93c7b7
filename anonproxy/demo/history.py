"""Days that never were: what the demonstration's visitors would have done before, recorded as if it were so.

A store of weeks is there in seconds, for pictures and tests of what is made of it.
"""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from anonproxy.anonymize.request import RawRequest
from anonproxy.demo.library import CONTENT
from anonproxy.demo.plan import HOST, KINDS, Visit, plan_visits
from anonproxy.demo.site import list_public_pages
from anonproxy.demo.stage import Stage, render_config
from anonproxy.ingest.recorder import Recorder
from anonproxy.model.parse_settings import parse_settings
from anonproxy.model.settings import RouteSettings, Settings

SEED: Final = 1125
HOUR_S: Final = 3_600
# How busy the hours of a day are, UTC, in a town five hours behind: a morning, an afternoon, a long evening.
HOURS: Final = (9, 6, 4, 2, 1, 1, 1, 1, 1, 1, 2, 3, 5, 8, 12, 15, 15, 14, 13, 14, 17, 19, 17, 13)
WEEKDAYS: Final = (1.05, 1.1, 1.15, 1.05, 0.95, 0.9, 0.6)  # from Monday
# One visit in a hundred meets a broken link; scanners and the odd ask for nothing that there is.
BROKEN: Final = 0.012
ASTRAY: Final = frozenset({"scanner", "odd"})


class Calendar:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


def write_history(folder: Path, until: datetime, days: int, visits_a_day: int) -> Path:
    """Record some days that end at a moment; return the configuration, whose store holds them."""
    stage = Stage(folder, "http://127.0.0.1:9", 8080, 9901)
    millbrook = (CONTENT / "millbrook.toml").read_text(encoding="utf-8")
    stage.config.write_text(render_config(stage, (HOST,)) + millbrook, encoding="utf-8")
    clock, dice = Calendar(), Random(SEED)  # noqa: S311 - invented visitors that everybody can repeat
    midnight = until.replace(hour=0, minute=0, second=0, microsecond=0)
    clock.time_s = (midnight - timedelta(days=days - 1)).timestamp()
    recorder = Recorder(publish_pages(parse_settings(stage.config.read_text(), stage.config.name)), clock, clock)
    for number in range(days):
        starts = midnight - timedelta(days=days - 1 - number)
        season = (
            (1 + 0.2 * math.sin(number / 17) + 0.004 * number) * WEEKDAYS[starts.weekday()] * dice.uniform(0.9, 1.1)
        )
        visits = round(visits_a_day * season)
        for request in sorted(plan_day(dice, SEED + number, visits, starts.timestamp()), key=lambda it: it.time_s):
            if request.time_s <= until.timestamp():
                clock.time_s = request.time_s
                recorder.record(request)
        recorder.tick()
        recorder.keep_house()
    clock.time_s = until.timestamp()
    recorder.close()
    return stage.config


def publish_pages(settings: Settings) -> Settings:
    """Put into the configuration what the running site would publish in its sitemap."""
    [site] = settings.sites
    public = tuple(RouteSettings(path=path) for path in list_public_pages() if path.count("/downloads/") == 0)
    return settings.model_copy(update={"sites": (site.model_copy(update={"routes": (*site.routes, *public)}),)})


def plan_day(dice: Random, seed: int, visits: int, starts_s: float) -> Iterator[RawRequest]:
    """Yield a day's requests, visit by visit."""
    plan = plan_visits(seed, max(len(KINDS), visits)).visits
    for visit in dice.sample(plan, visits):
        hour = dice.choices(range(24), HOURS)[0]
        yield from walk(dice, visit, starts_s + hour * HOUR_S + dice.uniform(0, HOUR_S))


def walk(dice: Random, visit: Visit, time_s: float) -> Iterator[RawRequest]:
    """Yield the requests of a visit, some time after each other, with what the site would answer."""
    headers = dict(visit.raw_headers)
    for request in visit.requests:
        is_broken = visit.kind in ASTRAY or dice.random() < BROKEN
        yield RawRequest(
            time_s,
            visit.raw_address,
            raw_host=HOST,
            raw_method=request.method,
            raw_target=request.raw_target,
            status=404 if is_broken else 302 if request.method == "POST" else 200,
            size_bytes=round(dice.lognormvariate(9.3, 0.8)),
            duration_s=dice.lognormvariate(-3.2, 0.9),
            raw_cookie=headers.get("Cookie", ""),
            raw_user_agent=headers.get("User-Agent", ""),
            raw_referrer=request.raw_referer,
            raw_accept_language=headers.get("Accept-Language", ""),
            is_opted_out="Sec-GPC" in headers or "DNT" in headers,
        )
        time_s += 0.1 if request.raw_target.startswith("/static/") else dice.lognormvariate(3.6, 0.9)
