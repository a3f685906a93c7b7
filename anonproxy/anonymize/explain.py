"""Explain one request: for each column what came in, masked, what is stored, and the rule that decided.

The steps are those of `anonymize`, so that the explanation can't differ from the deed. What is shown of a request is
what will be stored of it anyway, and lengths.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from anonproxy.anonymize.context import Context
from anonproxy.anonymize.request import RawRequest
from anonproxy.anonymize.session import find_session_cookie
from anonproxy.anonymize.steps import Draft, take_steps
from anonproxy.model.columns import HIT_COLUMNS
from anonproxy.model.vocabularies import METHODS, DropReason

MASK: Final = "••••"

# The name of a parameter is shown if it looks like one that a programmer chose.
PARAMETER: Final = re.compile(r"[a-z][a-z_]{0,15}", re.IGNORECASE | re.ASCII)


class Explanation(NamedTuple):
    """What became of one column. Holds nothing raw."""

    column: str
    raw_masked: str
    stored: str
    rule: str


DROPPED: Final = "(dropped)"

# What is shown of a dropped request, and why it was dropped.
DROPS: Final[dict[DropReason, tuple[Callable[[Draft], str], str]]] = {
    DropReason.OVERSIZED: (lambda draft: mask_text(draft.request.raw_target), "longer than any server takes"),
    DropReason.UNKNOWN_SITE: (lambda draft: mask_text(draft.request.raw_host), "no configured site has this host"),
    DropReason.BAD_TIME: (lambda draft: MASK, "no time between 1970 and 2200"),
    DropReason.BAD_ADDRESS: (
        lambda draft: mask_text(draft.request.raw_client),
        "not certainly one address, and addresses are never guessed",
    ),
    DropReason.NO_KEY: (lambda draft: MASK, "there is no key for this time"),
    DropReason.INTERNAL_ERROR: (lambda draft: MASK, "a mistake in this software; nothing of the request is kept"),
}


def explain(request: RawRequest, context: Context) -> list[Explanation]:
    """Explain what is stored of a request, column by column, or in one row why nothing is. Never raises.

    Reveals: what is stored, and lengths
    """
    draft = Draft(request)
    try:
        reason = take_steps(draft, context)
        return [_explain_drop(draft, reason)] if reason else _explain_columns(draft)
    except Exception:  # its text may hold the request
        return [_explain_drop(draft, DropReason.INTERNAL_ERROR)]


def _explain_drop(draft: Draft, reason: DropReason) -> Explanation:
    show, rule = DROPS[reason]
    return Explanation(DROPPED, show(draft), reason.value, rule)


def _explain_columns(draft: Draft) -> list[Explanation]:
    stored = draft.to_hit()._asdict()
    return [
        Explanation(
            column.name,
            SHOW[column.name](draft),
            show_stored(column.name, stored[column.name]),
            draft.rules[RULE_OF.get(column.name, column.name)],
        )
        for column in HIT_COLUMNS
    ]


def show_stored(column: str, value: str | int | None) -> str:
    """Render a stored value.

    Reveals: what is stored
    """
    if value is None:
        return "–"
    if column == "time":
        return datetime.fromtimestamp(int(value), UTC).strftime("%Y-%m-%d %H:%M")
    return str(value) or '""'


def mask_text(raw: str) -> str:
    """Show how long a text is.

    Reveals: its length
    """
    return f"{MASK} ({len(raw)} {'character' if len(raw) == 1 else 'characters'})" if raw else "–"


def mask_number(number: int) -> str:
    """Show the first digit of a number and how many follow.

    Reveals: its order of magnitude
    """
    return f"{number}"[0] + "•" * (len(f"{number}") - 1)


def mask_time(time_s: float) -> str:
    """Show the day and hide the rest.

    Reveals: the day
    """
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d ••:••:••")


def mask_client(draft: Draft) -> str:
    """Show the network that could be stored at most, whatever form the address came in.

    Reveals: the IPv4 /24 or IPv6 /32, as configured
    """
    carried = (
        ", carried in IPv6" if draft.client.address.version == 4 and draft.request.raw_client.count(":") > 1 else ""
    )
    return f"in {draft.client.networks[0]}{carried}"


def mask_session(draft: Draft) -> str:
    """Show what the visit is recognised by.

    Reveals: the configured name of the cookie and the length of its value, or the network and the User-Agent's length
    """
    cookie = find_session_cookie(draft.request.raw_cookie, draft.site.session_cookies)
    if cookie:
        return f"{cookie.configured}={mask_text(cookie.raw_value)}"
    return f"address {mask_client(draft)}; User-Agent {mask_text(draft.request.raw_user_agent)}"


def mask_target(draft: Draft) -> str:
    """Show the segments that the stored route shows, and the names of common parameters.

    Reveals: the stored route, the number of segments, and names of parameters
    """
    raw_path, _, raw_query = draft.request.raw_target.partition("#")[0].partition("?")
    stored = frozenset(draft.route.lower().split("/")) - {""}
    segments = (part if part.lower() in stored or not part else MASK for part in raw_path.split("/"))
    query = "&".join(_mask_parameter(pair) for pair in raw_query.split("&")) if raw_query else ""
    return "/".join(segments) + (f"?{query}" if query else "")


def _mask_parameter(raw_pair: str) -> str:
    raw_name, equals, _ = raw_pair.partition("=")
    return f"{raw_name if equals and PARAMETER.fullmatch(raw_name) else MASK}={MASK}"


def show_method(draft: Draft) -> str:
    """Show a method that is stored as it is, and the length of another.

    Reveals: the method
    """
    raw_method = draft.request.raw_method
    return raw_method if raw_method in METHODS else mask_text(raw_method)


# What is shown of the request beside each column.
SHOW: Final[dict[str, Callable[[Draft], str]]] = {
    "time": lambda draft: mask_time(draft.request.time_s),
    "site": lambda draft: f"Host {mask_text(draft.request.raw_host)}",
    "method": show_method,
    "route": mask_target,
    "kind": mask_target,
    "status": lambda draft: str(draft.status),
    "size_bytes": lambda draft: f"{mask_number(draft.request.size_bytes)} bytes",
    "duration_ms": lambda draft: f"{mask_number(draft.duration_ms)} ms",
    "visit": mask_session,
    "step": mask_session,
    "elapsed_s": lambda draft: mask_time(draft.request.time_s),
    "network": mask_client,
    "network_class": mask_client,
    "country": mask_client,
    "referrer": lambda draft: mask_text(draft.request.raw_referrer),
    "channel": lambda draft: mask_text(draft.request.raw_referrer),
    "campaign": mask_target,
    "browser": lambda draft: mask_text(draft.request.raw_user_agent),
    "os": lambda draft: mask_text(draft.request.raw_user_agent),
    "device": lambda draft: mask_text(draft.request.raw_user_agent),
    "bot": lambda draft: mask_text(draft.request.raw_user_agent),
    "language": lambda draft: mask_text(draft.request.raw_accept_language),
}

# Columns that one rule fills together.
RULE_OF: Final = {
    "browser": "agent",
    "os": "agent",
    "device": "agent",
    "bot": "agent",
}
