"""Logs in bulk: a table of raw columns in, a table of hits out.

A log says the same things again and again. So each distinct value of a raw column, or of several that a rule looks at
together, goes once through the functions that a single request goes through, and the answers are gathered by number.
Only visits and admission depend on what came before. For a stream they walk the rows in their order, with the same
`Visits` and the same `Admission`; so the hits are those that `anonymize` makes of the same requests in the same order,
with one exception: a row that meets a mistake of this software counts for no visit. Old logs are known before anything
of them is written, which `epoch` makes use of.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.anonymize.agent import parse_agent
from anonproxy.anonymize.buckets import (
    RESOLUTIONS_S,
    bucket_duration,
    bucket_elapsed,
    bucket_size,
    bucket_status,
    bucket_time,
)
from anonproxy.anonymize.context import Client, Context, Site
from anonproxy.anonymize.language import parse_language
from anonproxy.anonymize.referrer import Campaign, parse_campaign
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.rules import (
    find_query,
    fold_method,
    is_credible,
    is_oversized,
    is_pageview,
    offer_campaign,
    offer_network,
    offer_referrer,
    offer_route,
    refuse_visit,
)
from anonproxy.anonymize.session import next_session_parts, session_parts
from anonproxy.ingest.coded import Coded, Plain, encode, join, repeat
from anonproxy.keys.visits import Visits
from anonproxy.model.columns import TIERS, arrow_schema
from anonproxy.model.vocabularies import DropReason

# One column for each field of a raw request. Texts are bytes: logs hold what is not UTF-8, and Arrow's strings can't.
RAW_TYPES: Final[dict[Any, pa.DataType]] = {
    float: pa.float64(),
    int: pa.int64(),
    bool: pa.bool_(),
    str: pa.binary(),
}
RAW_SCHEMA: Final = pa.schema([(field.name, RAW_TYPES[field.type]) for field in fields(RawRequest)])
DEFAULTS: Final = {field.name: field.default for field in fields(RawRequest)}
TEXTS: Final = tuple(field.name for field in RAW_SCHEMA if field.type == pa.binary())

HOT_SCHEMA: Final = arrow_schema(TIERS["hot"])
# Every resolution is a multiple of it, and so is the end of all credible times.
FINEST_RESOLUTION_S: Final = min(RESOLUTIONS_S.values())
OPEN_COLUMNS: Final = ("route", "network", "referrer", "campaign")


# The site, and what a session is tagged by: in memory only.
Session = tuple[str, tuple[bytes, ...]]


class Batch(NamedTuple):
    """What became of a table of requests: hits and dropped together are as many as its rows."""

    hits: pa.Table
    dropped: Counter[DropReason]


def anonymize_batch(requests: pa.Table, context: Context, visits: Visits) -> Batch:
    """Make hits of requests of one epoch, in their order.

    Shape:   requests in columns of RAW_SCHEMA without nulls, those that a log doesn't have left out; hits as in the hot
             tier
    """
    rows = apply_rules(requests, context)
    sessions, next_sessions, are_pages = (rows.columns[name].rows() for name in VISIT_COLUMNS)
    marks, is_kept = walk_visits(sessions, next_sessions, rows.time_s.rows(), are_pages, visits)
    if not all(is_kept):
        rows.keep(pa.array(is_kept, pa.bool_()), DropReason.NO_KEY)
    walked = {
        "visit": pa.array(marks.visit, pa.uint64()),
        "step": pa.array(marks.step, pa.uint8()),
        "elapsed_s": bucket_all_elapsed(pa.array(marks.elapsed_s, pa.int64())),
        **{name: admit_all(name, rows, marks.visitor, context) for name in OPEN_COLUMNS},
    }
    arrays = [
        walked[field.name] if field.name in walked else rows.columns[field.name].gather(field.type)
        for field in HOT_SCHEMA
    ]
    return Batch(pa.table(arrays, schema=HOT_SCHEMA), rows.dropped)


MISTAKE: Final = object()


class Rule(NamedTuple):
    """A column that depends on nothing but others of the same row."""

    column: str
    sources: tuple[str, ...]
    answer: Callable[..., Any]  # asked with the context and a value of each source
    missing: DropReason | None = None  # why rows are dropped for which there is no answer

    def ask(self, context: Context, values: tuple[Any, ...]) -> Any:
        """Answer for one combination of values."""
        try:
            return self.answer(context, *values)
        except Exception:  # its text may hold the request, so nothing of it is kept
            return MISTAKE


class Rows:
    """The columns of those rows that are not dropped yet."""

    def __init__(self, requests: pa.Table) -> None:
        self.columns: dict[str, Coded[Any]] = {
            name: read_column(requests[name]) if name in requests.column_names else repeat(default, requests.num_rows)
            for name, default in DEFAULTS.items()
            if name != "time_s"
        }
        time_s = requests["time_s"].combine_chunks()
        self.time_s = Plain(time_s)  # a log has more different times than anything else; no rule needs them exact
        quarters = pc.multiply(pc.floor(pc.divide(time_s, FINEST_RESOLUTION_S)), FINEST_RESOLUTION_S)
        self.columns["quarter_s"] = encode(quarters)
        self.dropped: Counter[DropReason] = Counter()

    def apply(self, rule: Rule, context: Context) -> None:
        """Add the column of a rule, and drop the rows that it has no answer for."""
        sources = join([self.columns[source] for source in rule.sources])
        self.columns[rule.column] = sources.map(lambda values: rule.ask(context, values))
        self._drop(rule.column, MISTAKE, DropReason.INTERNAL_ERROR)
        if rule.missing:
            self._drop(rule.column, None, rule.missing)

    def drop_oversized(self, name: str) -> None:
        """Drop the rows with a text that no server would have taken."""
        column = self.columns[name]
        if any(map(is_oversized, column.values)):
            has_room = pa.array([not is_oversized(raw) for raw in column.values], pa.bool_())
            self.keep(has_room.take(column.codes), DropReason.OVERSIZED)

    def keep(self, mask: pa.Array, reason: DropReason) -> None:
        """Drop all rows but those of the mask."""
        self.dropped[reason] += len(mask) - (mask.true_count or 0)
        self.columns = {name: column.filter(mask) for name, column in self.columns.items()}
        self.time_s = self.time_s.filter(mask)

    def _drop(self, name: str, value: object, reason: DropReason) -> None:
        column = self.columns[name]
        if any(known is value for known in column.values):
            self.keep(pa.array([known is not value for known in column.values], pa.bool_()).take(column.codes), reason)


def read_column(column: pa.ChunkedArray) -> Coded[Any]:
    """Take a raw column in; texts are decoded as in a raw request."""
    coded = encode(column.combine_chunks())
    return coded.map(decode) if column.type == pa.binary() else coded


def decode(raw: bytes) -> str:
    """Decode a text so that no byte is lost or guessed."""
    return raw.decode("utf-8", "surrogateescape")


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the answer of a rule of a function that needs no context."""
    return lambda context, *values: function(*values)


def find_site(context: Context, raw_host: str) -> Site | None:
    """Find the site of a host."""
    found = context.find_site(raw_host)
    return found[1] if found else None


def floor_time(context: Context, quarter_s: float) -> int | None:
    """Floor a time to the resolution, unless there is no such time."""
    return bucket_time(quarter_s, context.resolution_s) if is_credible(quarter_s) else None


def read_link(site: Site, raw_target: str) -> Campaign:
    """Read the campaign of a link to the site."""
    return parse_campaign(find_query(raw_target), site.campaigns)


def collect_session(refusal: str, site: Site, client: Client, raw_cookie: str, raw_user_agent: str) -> Session | None:
    """Collect what a session is tagged by, unless there is to be no visit."""
    if refusal:
        return None
    request = RawRequest(0.0, "", raw_cookie=raw_cookie, raw_user_agent=raw_user_agent)
    return site.name, session_parts(request, client.address, site.session_cookies)


def collect_next_session(site: Site, raw_set_cookie: str) -> tuple[bytes, ...] | None:
    """Collect what the session will be tagged by from now on, if the answer sets its cookie."""
    return next_session_parts(RawRequest(0.0, "", raw_set_cookie=raw_set_cookie), site.session_cookies)


def part(name: str) -> Callable[..., Any]:
    """Make the answer of a rule of a part of what another rule found."""
    return plain(attrgetter(name))


# What `anonymize.steps` does with one request, in its order, so that a row is dropped for the same reason.
RULES: Final = (
    Rule("found_site", ("raw_host",), find_site, DropReason.UNKNOWN_SITE),
    Rule("site", ("found_site",), part("name")),
    Rule("time", ("quarter_s",), floor_time, DropReason.BAD_TIME),
    Rule("client", ("raw_client",), lambda context, raw: context.read_client(raw), DropReason.BAD_ADDRESS),
    Rule("network_class", ("client",), part("network_class")),
    Rule("country", ("client",), part("country")),
    Rule("agent", ("raw_user_agent", "is_agent_logged"), plain(parse_agent)),
    *(Rule(name, ("agent",), part(name)) for name in ("browser", "os", "device", "bot")),
    Rule("language", ("raw_accept_language",), lambda context, raw: parse_language(raw, context.languages)),
    Rule("method", ("raw_method",), plain(fold_method)),
    Rule("status", ("status",), plain(bucket_status)),
    Rule("size_bytes", ("size_bytes",), plain(bucket_size)),
    Rule("duration_ms", ("duration_s",), plain(bucket_duration)),
    Rule(
        "page",
        ("found_site", "raw_target", "status", "is_private"),
        plain(lambda site, raw_target, status, is_private: site.match_route(raw_target, status, is_private)),
    ),
    Rule("kind", ("page",), part("kind")),
    Rule("audience", ("page",), part("audience")),
    Rule("is_pageview", ("kind", "method", "status"), plain(is_pageview)),
    Rule("refusal", ("is_opted_out", "bot", "audience"), plain(refuse_visit)),
    Rule("session", ("refusal", "found_site", "client", "raw_cookie", "raw_user_agent"), plain(collect_session)),
    Rule("next_session", ("found_site", "raw_set_cookie"), plain(collect_next_session)),
    Rule("route", ("page",), plain(offer_route)),
    Rule("network", ("client",), lambda context, client: offer_network(client.networks, context.stores_network)),
    Rule(
        "came_from",
        ("found_site", "raw_referrer", "raw_host"),
        plain(lambda site, raw_referrer, raw_host: site.read_referrer(raw_referrer, raw_host)),
    ),
    Rule("link", ("found_site", "raw_target"), plain(read_link)),
    Rule("channel", ("link", "came_from"), plain(lambda link, came_from: link.channel or came_from.channel)),
    Rule("referrer", ("came_from",), plain(offer_referrer)),
    Rule("campaign", ("link",), plain(offer_campaign)),
)


def apply_rules(requests: pa.Table, context: Context) -> "Rows":
    """Add to requests everything that depends on nothing but the request itself."""
    rows = Rows(requests)
    for name in TEXTS:
        rows.drop_oversized(name)
    for rule in RULES:
        rows.apply(rule, context)
    return rows


VISIT_COLUMNS: Final = ("session", "next_session", "is_pageview")
NO_VISIT: Final = (None, None, None, None)


class Marks(NamedTuple):
    """Where the rows stand in their visits, as columns: a million tuples would keep the garbage collector busy."""

    visit: list[int | None]
    step: list[int | None]
    elapsed_s: list[int | None]
    visitor: list[int | None]


def walk_visits(
    sessions: Iterable[Session | None],
    next_sessions: Iterable[tuple[bytes, ...] | None],
    times_s: Iterable[float],
    are_pages: Iterable[bool],
    visits: Visits,
) -> tuple[Marks, list[bool]]:
    """Place each row in its visit, in turn; and tell for which there was a key at its time, the others being left out.

    Shape: a row that is to have no visit has no session
    """
    marks, is_kept = Marks([], [], [], []), []
    tags: dict[Session, bytes] = {}  # a session is tagged once, and not once a line
    for session, next_parts, time_s, is_page in zip(sessions, next_sessions, times_s, are_pages, strict=True):
        mark: tuple[int | None, ...] | None = NO_VISIT
        if session is not None:
            # Without a key a session has no tag, and then `mark_tagged` marks nothing.
            tag = tags.get(session) or tags.setdefault(session, visits.tag(*session) or b"")
            mark = visits.mark_tagged(tag, time_s, is_page)
            if next_parts:
                site, raw_parts = session
                visits.hand_over(site, raw_parts, next_parts)
        is_kept.append(mark is not None)
        if mark:
            visit, step, elapsed_s, visitor = mark
            marks.visit.append(visit)
            marks.step.append(step)
            marks.elapsed_s.append(elapsed_s)
            marks.visitor.append(visitor)
    return marks, is_kept


def bucket_all_elapsed(elapsed_s: pa.Array) -> pa.Array:
    """Make the seconds since the visits began coarse."""
    return encode(elapsed_s).map(bucket_elapsed).gather(pa.int32())


def admit_all(column: str, rows: Rows, visitors: Iterable[int | None], context: Context) -> pa.Array:
    """Choose what is stored of an open column, counting each row's visitor for what the row offers."""
    offered = join([rows.columns["site"], rows.columns[column]])
    stored = [offer.otherwise for _, offer in offered.values]
    is_waiting = [bool(offer.candidates) for _, offer in offered.values]  # not every candidate is admitted yet
    chosen = []
    for code, visitor in zip(offered.codes.to_pylist(), visitors, strict=True):
        if is_waiting[code]:
            site, offer = offered.values[code]
            shared = context.admission.find_shared(site, column, offer.candidates, visitor)
            stored[code] = offer.choose(shared)
            is_waiting[code] = len(shared) < len(offer.candidates)
        chosen.append(stored[code])
    return pa.array(chosen, pa.string())
