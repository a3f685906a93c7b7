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
from functools import partial
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
from anonproxy.anonymize.referrer import Campaign, Referrer, parse_campaign
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.route import Route
from anonproxy.anonymize.rules import (
    Offer,
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
from anonproxy.keys.visits import Visits
from anonproxy.model.coded import Coded, encode, filter_all, join, repeat
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
    marks, is_kept = walk_visits(sessions, next_sessions, rows.time_s.to_pylist(), are_pages, visits)
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
    answer: Callable[..., Any]  # asked with a value of each source
    missing: DropReason | None = None  # why rows are dropped for which there is no answer
    needs_context: bool = False  # asked with the context before them

    def bind(self, context: Context) -> Callable[[tuple[Any, ...]], Any]:
        """Give what answers for one combination of values."""
        answer = partial(self.answer, context) if self.needs_context else self.answer

        def ask(values: tuple[Any, ...]) -> Any:
            try:
                return answer(*values)
            except Exception:  # its text may hold the request, so nothing of it is kept
                return MISTAKE

        return ask


class Rows:
    """The columns of those rows that are not dropped yet."""

    def __init__(self, requests: pa.Table) -> None:
        self.columns: dict[str, Coded[Any]] = {
            name: read_column(requests[name]) if name in requests.column_names else repeat(default, requests.num_rows)
            for name, default in DEFAULTS.items()
            if name != "time_s"
        }
        # A log has more different times than anything else, and no rule needs them exact.
        self.time_s = requests["time_s"].combine_chunks()
        self.columns["quarter_s"] = encode(
            pc.multiply(pc.floor(pc.divide(self.time_s, FINEST_RESOLUTION_S)), FINEST_RESOLUTION_S)
        )
        self.dropped: Counter[DropReason] = Counter()

    def apply(self, rule: Rule, context: Context) -> None:
        """Add the column of a rule, and drop the rows that it has no answer for."""
        sources = join([self.columns[source] for source in rule.sources])
        self.columns[rule.column] = sources.map(rule.bind(context))
        self._drop(rule.column, MISTAKE, DropReason.INTERNAL_ERROR)
        if rule.missing:
            self._drop(rule.column, None, rule.missing)

    def drop_oversized(self, name: str) -> None:
        """Drop the rows with a text that no server would have taken."""
        column = self.columns[name]
        if any(map(is_oversized, column.values)):
            self.keep(column.where(lambda raw: not is_oversized(raw)), DropReason.OVERSIZED)

    def keep(self, mask: pa.Array, reason: DropReason) -> None:
        """Drop all rows but those of the mask."""
        self.dropped[reason] += len(mask) - (mask.true_count or 0)
        self.columns = filter_all(self.columns, mask)
        self.time_s = self.time_s.filter(mask)

    def _drop(self, name: str, value: object, reason: DropReason) -> None:
        column = self.columns[name]
        if any(known is value for known in column.values):
            self.keep(column.where(lambda known: known is not value), reason)


def read_column(column: pa.ChunkedArray) -> Coded[Any]:
    """Take a raw column in; texts are decoded as in a raw request."""
    coded = encode(column)
    return coded.map(decode) if column.type == pa.binary() else coded


def decode(raw: bytes) -> str:
    """Decode a text so that no byte is lost or guessed."""
    return raw.decode("utf-8", "surrogateescape")


def find_site(context: Context, raw_host: str) -> Site | None:
    """Find the site of a host."""
    found = context.find_site(raw_host)
    return found[1] if found else None


def floor_time(context: Context, quarter_s: float) -> int | None:
    """Floor a time to the resolution, unless there is no such time."""
    return bucket_time(quarter_s, context.resolution_s) if is_credible(quarter_s) else None


def read_client(context: Context, raw_client: str) -> Client | None:
    """Read who asked."""
    return context.read_client(raw_client)


def read_language(context: Context, raw_accept_language: str) -> str:
    """Read which language is preferred."""
    return parse_language(raw_accept_language, context.languages)


def match_page(site: Site, raw_target: str, status: int, is_private: bool) -> Route:
    """Find what page was asked for."""
    return site.match_route(raw_target, status, is_private)


def offer_networks(context: Context, client: Client) -> Offer:
    """Offer the networks of a client."""
    return offer_network(client.networks, context.stores_network)


def read_referrer(site: Site, raw_referrer: str, raw_host: str) -> Referrer:
    """Read where the visitor came from."""
    return site.read_referrer(raw_referrer, raw_host)


def read_link(site: Site, raw_target: str) -> Campaign:
    """Read the campaign of a link to the site."""
    return parse_campaign(find_query(raw_target), site.campaigns)


def collect_session(refusal: str, site: Site, client: Client, raw_cookie: str, raw_user_agent: str) -> Session | None:
    """Collect what a session is tagged by, unless there is to be no visit."""
    if refusal:
        return None
    return site.name, session_parts(client.address, raw_cookie, raw_user_agent, site.session_cookies)


def collect_next_session(site: Site, raw_set_cookie: str) -> tuple[bytes, ...] | None:
    """Collect what the session will be tagged by from now on, if the answer sets its cookie."""
    return next_session_parts(raw_set_cookie, site.session_cookies)


# What `anonymize.steps` does with one request, in its order, so that a row is dropped for the same reason.
RULES: Final = (
    Rule("found_site", ("raw_host",), find_site, DropReason.UNKNOWN_SITE, needs_context=True),
    Rule("site", ("found_site",), attrgetter("name")),
    Rule("time", ("quarter_s",), floor_time, DropReason.BAD_TIME, needs_context=True),
    Rule("client", ("raw_client",), read_client, DropReason.BAD_ADDRESS, needs_context=True),
    *(Rule(name, ("client",), attrgetter(name)) for name in ("network_class", "country")),
    Rule("agent", ("raw_user_agent", "is_agent_logged"), parse_agent),
    *(Rule(name, ("agent",), attrgetter(name)) for name in ("browser", "os", "device", "bot")),
    Rule("language", ("raw_accept_language",), read_language, needs_context=True),
    Rule("method", ("raw_method",), fold_method),
    Rule("status", ("status",), bucket_status),
    Rule("size_bytes", ("size_bytes",), bucket_size),
    Rule("duration_ms", ("duration_s",), bucket_duration),
    Rule("page", ("found_site", "raw_target", "status", "is_private"), match_page),
    *(Rule(name, ("page",), attrgetter(name)) for name in ("kind", "audience")),
    Rule("is_pageview", ("kind", "method", "status"), is_pageview),
    Rule("refusal", ("is_opted_out", "bot", "audience"), refuse_visit),
    Rule("session", ("refusal", "found_site", "client", "raw_cookie", "raw_user_agent"), collect_session),
    Rule("next_session", ("found_site", "raw_set_cookie"), collect_next_session),
    Rule("route", ("page",), offer_route),
    Rule("network", ("client",), offer_networks, needs_context=True),
    Rule("came_from", ("found_site", "raw_referrer", "raw_host"), read_referrer),
    Rule("link", ("found_site", "raw_target"), read_link),
    Rule("channel", ("link", "came_from"), lambda link, came_from: link.channel or came_from.channel),
    Rule("referrer", ("came_from",), offer_referrer),
    Rule("campaign", ("link",), offer_campaign),
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
    return encode(elapsed_s).map(lambda known: None if known is None else bucket_elapsed(known)).gather(pa.int32())


def admit_all(column: str, rows: Rows, visitors: Iterable[int | None], context: Context) -> pa.Array:
    """Choose what is stored of an open column, counting each row's visitor for what the row offers."""
    offered = join([rows.columns["site"], rows.columns[column]]).narrow()
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
