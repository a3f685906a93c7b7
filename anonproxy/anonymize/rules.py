"""The rules that join what single fields say: pure, the same for one request in `steps` and for a log in bulk."""

from typing import Final, NamedTuple

from anonproxy.anonymize.detectors import detect
from anonproxy.anonymize.referrer import Campaign, Referrer
from anonproxy.anonymize.route import Route
from anonproxy.model.vocabularies import DIRECT, INTERNAL, METHODS, OTHER, PAGEVIEW_KINDS, PAGEVIEW_STATUSES, UNMATCHED

# Longer than any server takes in a request line or a header (8 kB by default in nginx and Apache, 16 kB in Node.js).
MAX_RAW_CHARS: Final = 65_536

# Later than the year 2200, or before 1970: a broken clock or a broken line, and a row that would never grow old.
MAX_TIME_S: Final = 7_258_118_400

LISTED: Final = "on a shipped list or in the configuration"
SHARED: Final = "shared by privacy.k visits of this epoch"
TOO_FEW: Final = "not yet shared by privacy.k visits of this epoch"
DETECTED: Final = "never: could identify somebody"
REFERRER_RULES: Final = {
    DIRECT: "the request names none",
    INTERNAL: "a page of the site itself",
    OTHER: "not the name of a public site",
}


def is_oversized(raw: str) -> bool:
    """Tell whether a text is longer than any server would have taken.

    Reveals: nothing
    """
    return len(raw) > MAX_RAW_CHARS


def is_credible(time_s: float) -> bool:
    """Tell whether a request can have come at that time; false for what is not a number, too.

    Reveals: nothing
    """
    return 0 <= time_s < MAX_TIME_S


def fold_method(raw_method: str) -> str:
    """Keep a method of the list and call every other OTHER.

    Reveals: one of four methods
    """
    return raw_method if raw_method in METHODS else "OTHER"


def is_pageview(kind: str, method: str, status: int) -> bool:
    """Tell whether somebody looks at what was sent.

    Reveals: nothing beside its arguments
    """
    return kind in PAGEVIEW_KINDS and method == "GET" and status in PAGEVIEW_STATUSES


def refuse_visit(is_opted_out: bool, bot: str, audience: str) -> str:
    """Say why a request gets no visit; "" when it does.

    Reveals: that there is no visit
    """
    if is_opted_out:
        return "none: the visitor opted out (Sec-GPC or DNT)"
    if bot:
        return "none: a robot"
    if audience != "general":
        return f"none: a {audience} page"
    return ""


def find_query(raw_target: str) -> str:
    """Take the query out of a request target.

    Reveals: the query, for parse_campaign only
    """
    return raw_target.partition("#")[0].partition("?")[2]


class Offer(NamedTuple):
    """What may be stored in an open column: a candidate that enough visitors share, or else this."""

    otherwise: str | None
    rule: str  # why it is `otherwise`
    candidates: tuple[str, ...] = ()  # the one that says most first

    def choose(self, shared: list[str]) -> str | None:
        """Take what says most of what is shared.

        Reveals: a candidate that k visits shared, or what needs no admission
        """
        return shared[0] if shared else self.otherwise


def offer_route(route: Route) -> Offer:
    """Offer the path itself where there is a candidate; a template needs no admission.

    Reveals: a template of the site's own; a path only as a candidate
    """
    if route.candidate is not None:
        return Offer(route.template, TOO_FEW, (route.candidate,))
    return Offer(route.template, "a path that the site does not have" if route.template == UNMATCHED else route.rule)


def offer_network(networks: tuple[str, ...], stores_network: bool) -> Offer:
    """Offer the networks of an address, if networks are stored at all.

    Reveals: the /24 or the IPv6 /32 at most, only as a candidate
    """
    return Offer(None, TOO_FEW, networks) if stores_network else Offer(None, "none: privacy.store_network is off")


def offer_referrer(referrer: Referrer) -> Offer:
    """Offer the site that a visitor came from.

    Reveals: a listed or configured site; another domain only as a candidate
    """
    if referrer.known:
        return Offer(referrer.candidate, REFERRER_RULES.get(referrer.candidate, LISTED))
    return offer_name(referrer.candidate)


def offer_campaign(campaign: Campaign) -> Offer:
    """Offer the campaign that a link names.

    Reveals: a configured campaign; another one only as a candidate
    """
    if not campaign.candidate:
        return Offer(None, "no campaign in the link")
    return Offer(campaign.candidate, LISTED) if campaign.known else offer_name(campaign.candidate)


def offer_name(name: str) -> Offer:
    """Offer a name of the visitor's own words, unless it could identify somebody.

    The detectors have seen candidates for routes already; these they have not.

    Reveals: the name, only as a candidate
    """
    return Offer(OTHER, DETECTED) if detect(name) else Offer(OTHER, TOO_FEW, (name,))
