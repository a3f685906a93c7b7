"""From the fields of lines to the raw columns of requests."""

from datetime import tzinfo
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.anonymize.client_address import choose_client, choose_hop, parse_x_forwarded_for
from anonproxy.ingest.batch import DEFAULTS, RAW_SCHEMA, decode
from anonproxy.ingest.formats.dialect import NEEDED, Field
from anonproxy.ingest.formats.escapes import Escapes, show_all
from anonproxy.ingest.formats.parsed import Lines, Rejection
from anonproxy.ingest.formats.values import END, READINGS, Columns
from anonproxy.model.coded import encode, join
from anonproxy.model.settings import ProxySettings

# No name of a site: a log without referrers doesn't say that everybody came directly.
UNKNOWN_REFERRER: Final = b"?"


def read_columns(lines: Lines, escapes: Escapes | None, zone: tzinfo, proxy: ProxySettings) -> None:
    """Read the fields of the lines; a line in which one can't be read is rejected."""
    for field in [key for key in lines.columns if isinstance(key, Field)]:
        values = lines.columns.pop(field)
        if escapes:
            values = show_all(values, escapes)
        add_columns(lines, READINGS[field.reading](field, values, zone))
    if "time_s" in lines.columns:
        lines.reject(pc.is_null(lines.columns["time_s"]), Rejection.BAD_TIME)
    join_query(lines.columns)
    find_client(lines.columns, proxy)


def build_table(lines: Lines, names: set[str]) -> pa.Table:
    """Put the columns of a format side by side, those that no line has with what a request has without them."""
    count = len(lines.numbers)
    columns = {
        name: lines.columns[name] if name in lines.columns else repeat_default(name, count)
        for name in RAW_SCHEMA.names
        if name in names or name in NEEDED
    }
    if "is_agent_logged" in lines.columns:
        columns["is_agent_logged"] = lines.columns["is_agent_logged"]
    elif "raw_user_agent" not in names:
        columns["is_agent_logged"] = pa.repeat(pa.scalar(False), count)
    if "raw_referrer" not in names:
        columns["raw_referrer"] = pa.repeat(pa.scalar(UNKNOWN_REFERRER), count)
    return pa.table(columns)


def repeat_default(name: str, count: int) -> pa.Array:
    """Say of every request what is said of one without the column; what every request has can only lack in no rows."""
    type_ = RAW_SCHEMA.field(name).type
    return pa.repeat(pa.scalar(DEFAULTS[name], type_), count) if count else pa.array([], type_)


def complete_table(requests: pa.Table) -> pa.Table:
    """Add the columns that a table doesn't have."""
    return pa.table(
        {
            name: requests[name] if name in requests.column_names else repeat_default(name, requests.num_rows)
            for name in RAW_SCHEMA.names
        },
        schema=RAW_SCHEMA,
    )


def add_columns(lines: Lines, columns: Columns) -> None:
    """Add what was read, and reject lines in which it couldn't be; of several times one is enough."""
    before = {name: lines.columns[name] for name in columns if name in lines.columns}
    lines.columns |= columns | {(name,): column for name, column in before.items()}
    for name in columns:
        if name != "time_s":
            lines.reject(pc.is_null(lines.columns[name]), Rejection.NOT_THIS_FORMAT)
    for name in before:
        lines.columns[name] = join_columns(name, lines.columns.pop((name,)), lines.columns[name])


def join_columns(name: str, first: pa.Array, second: pa.Array) -> pa.Array:
    """Make one column of two that say the same, or each a part of it."""
    if name in {"raw_cookie", "raw_set_cookie"}:
        joined = pc.binary_join_element_wise(first, second, b"; ")
        return pc.if_else(pc.equal(first, b""), second, pc.if_else(pc.equal(second, b""), first, joined))
    if name == "time_s":
        return pc.coalesce(first, second)
    if pa.types.is_boolean(first.type):
        return pc.or_(first, second)
    return pc.if_else(pc.equal(first, b"" if pa.types.is_binary(first.type) else 0), second, first)


def join_query(columns: dict[object, pa.Array]) -> None:
    """Put a query that stands in a field of its own behind the target."""
    query = columns.pop("raw_query", None)
    if query is None or "raw_target" not in columns:
        return
    query = pc.if_else(pc.starts_with(query, b"?"), pc.binary_slice(query, 1, END), query)
    joined = pc.binary_join_element_wise(columns["raw_target"], query, b"?")
    columns["raw_target"] = pc.if_else(pc.equal(query, b""), columns["raw_target"], joined)


def find_client(columns: dict[object, pa.Array], proxy: ProxySettings) -> None:
    """Take the client out of X-Forwarded-For as `run` does: if the one who is named beside it is a trusted proxy.

    Where nobody is named beside it, the log was written behind a proxy, which has seen the last hop itself.
    """
    forwarded = columns.pop("raw_forwarded_for", None)
    if forwarded is None:
        return
    if "raw_client" not in columns:
        found = encode(forwarded).map(lambda raw: choose_hop("", parse_x_forwarded_for(decode(raw)), proxy))
    elif proxy.trusted_proxies or proxy.trusted_hops:
        pairs = join([encode(columns["raw_client"]), encode(forwarded)])
        found = pairs.map(lambda pair: choose_client(decode(pair[0]), decode(pair[1]), "", proxy))
    else:
        return
    columns["raw_client"] = found.map(lambda choice: choice.raw_client.encode("utf-8", "surrogateescape")).gather(
        pa.binary()
    )
