"""Where a visitor came from: a public site or nothing, and the campaign that a link names.

Only the scheme and the host of a Referer are looked at; its path and query, where search terms stand, never are.
Which sites are public and what they are stands in data/referrers.toml.
"""

import re
import tomllib
import unicodedata
from functools import lru_cache
from importlib.resources import files
from typing import Final, NamedTuple
from urllib.parse import unquote_plus

from publicsuffixlist import PublicSuffixList

from anonproxy.model.vocabularies import CHANNELS, DIRECT, INTERNAL, OTHER

# A host name has at most 253 characters (RFC 1035 section 2.3.4); a campaign link has few parameters.
MAX_HOST: Final = 253
MAX_QUERY: Final = 4_000
CACHED_HOSTS: Final = 4_096

# Scheme and host; user information before an @ is skipped, anything that isn't a plain ASCII name doesn't match.
REFERRER: Final = re.compile(
    r"(?P<scheme>https?|android-app)://(?:[^/?#@\\]{0,200}@)?(?P<host>[a-z0-9._-]{1,253})(?::\d{0,5})?(?:[/?#]|$)",
    re.IGNORECASE | re.ASCII,
)
START: Final = MAX_HOST + 300  # characters of a Referer that the pattern can need

CAMPAIGN: Final = re.compile(r"[a-z0-9._-]{1,40}")
UTM: Final = frozenset({"utm_source", "utm_medium", "utm_campaign"})
# Identifiers that senders append by themselves, one per click or even per recipient: their values are never read.
# Facebook and Instagram mark every link, also unpaid ones; the others mark what was paid for or mailed out.
CHANNEL_BY_CLICK_ID: Final = {
    "dclid": "campaign",
    "fbclid": "social",
    "gad_source": "campaign",
    "gbraid": "campaign",
    "gclid": "campaign",
    "igsh": "social",
    "igshid": "social",
    "li_fat_id": "campaign",
    "mc_cid": "email",
    "mc_eid": "email",
    "mkt_tok": "email",
    "msclkid": "campaign",
    "ttclid": "campaign",
    "twclid": "campaign",
    "wbraid": "campaign",
    "_hsenc": "email",
}
CHANNEL_BY_MEDIUM: Final = {
    "e-mail": "email",
    "email": "email",
    "newsletter": "email",
    "social": "social",
    "social-media": "social",
    "organic": "search",
}


class Referrer(NamedTuple):
    """What may become of a Referer. A candidate that isn't known is stored only if k visits share it."""

    candidate: str
    channel: str
    known: bool


class Campaign(NamedTuple):
    """What a link's own query says; "" where it says nothing. The channel overrides the Referer's."""

    channel: str
    candidate: str
    known: bool


UNREADABLE: Final = Referrer(OTHER, "other", True)

TABLE: Final = tomllib.loads(
    files("anonproxy.anonymize").joinpath("data", "referrers.toml").read_text(encoding="utf-8")
)
CHANNEL_BY_SITE: Final[dict[str, str]] = {
    site: kind if kind in CHANNELS else "other" for kind, section in TABLE.items() for site in section.get("sites", ())
}
ALIASES: Final[dict[str, str]] = TABLE["aliases"]
ANY_ENDING: Final[dict[str, str]] = TABLE["any_ending"]
ANDROID_APPS: Final[dict[str, str]] = TABLE["android_apps"]

# Without the private section, somebody.blogspot.com is blogspot.com: the service, not the person. Without unknown
# endings, printer.local, 192.0.2.1 and intranet names are no domains at all.
SUFFIXES: Final = PublicSuffixList(only_icann=True, accept_unknown=False)


def parse_referrer(raw_referrer: str, internal_hosts: frozenset[str], configured: frozenset[str]) -> Referrer:
    """Name the public site that a Referer points to, and the channel it stands for.

    Reveals: a listed site, or a registrable domain for admission by k; never a path, a query, a subdomain of one's own
    Source:  RFC 9110 section 10.1.3; https://publicsuffix.org/list/
    """
    if not raw_referrer.strip():
        return Referrer(DIRECT, "direct", True)
    parts = REFERRER.match(raw_referrer.lstrip()[:START])
    if parts is None:
        return UNREADABLE
    host = parts["host"].lower().rstrip(".")
    if parts["scheme"].lower() == "android-app":
        return known_site(ANDROID_APPS[host]) if host in ANDROID_APPS else UNREADABLE
    if not {host, host.removeprefix("www."), f"www.{host}"}.isdisjoint(internal_hosts):
        return Referrer(INTERNAL, "internal", True)
    own = next((name for name in names_above(host) if name in configured), None)
    return Referrer(own, CHANNEL_BY_SITE.get(own, "other"), True) if own else parse_host(host)


@lru_cache(CACHED_HOSTS)
def parse_host(host: str) -> Referrer:
    """Name the listed site that a host belongs to, else its registrable domain as a candidate.

    Reveals: a listed site, or a registrable domain for admission by k
    """
    domains = parent_domains(host)
    listed = next((name for name in domains if name in CHANNEL_BY_SITE or name in ALIASES), None)
    if listed:
        return known_site(ALIASES.get(listed, listed))
    if not domains:
        return UNREADABLE
    folded = ANY_ENDING.get(domains[-1].partition(".")[0])
    return known_site(folded) if folded else Referrer(domains[-1], "other", False)


def parent_domains(host: str) -> tuple[str, ...]:
    """List a host and the names above it, down to its registrable domain; nothing if it has none.

    Reveals: nothing more than its argument
    """
    registrable = SUFFIXES.privatesuffix(host)
    return names_above(host)[: -registrable.count(".")] if registrable else ()


def names_above(host: str) -> tuple[str, ...]:
    """List a host and every name above it, whether or not its ending is a public one: an intranet's isn't.

    Reveals: nothing more than its argument
    """
    labels = host.split(".")
    return tuple(".".join(labels[start:]) for start in range(len(labels)))


def known_site(site: str) -> Referrer:
    """Make the answer for a listed site.

    Reveals: a listed site
    """
    return Referrer(site, CHANNEL_BY_SITE[site], True)


def parse_campaign(raw_query: str, configured: frozenset[str]) -> Campaign:
    """Read the campaign that a link to the site names: utm_campaign, or else utm_source.

    The medium and the source choose the channel; without them a click identifier does. No other parameter is read.

    Reveals: a channel, and a name of at most 40 plain characters for admission by k
    """
    raw = read_parameters(raw_query)
    if raw.keys().isdisjoint(UTM):
        return Campaign(next((CHANNEL_BY_CLICK_ID[name] for name in raw), ""), "", False)
    source, medium, campaign = (parse_name(raw.get(f"utm_{part}", "")) for part in ("source", "medium", "campaign"))
    site = next((name for name in (source, f"{source}.com") if name in CHANNEL_BY_SITE), "")
    channel = CHANNEL_BY_MEDIUM.get(medium, "campaign") if medium else CHANNEL_BY_SITE.get(site, "campaign")
    candidate = campaign or (source if not site else "")
    return Campaign("campaign" if channel == "other" else channel, candidate, candidate in configured)


def read_parameters(raw_query: str) -> dict[str, str]:
    """Split off the few parameters that campaigns use; the first of a name counts, and click identifiers are emptied.

    Reveals: raw values of utm_source, utm_medium and utm_campaign, for parse_name only
    """
    parameters: dict[str, str] = {}
    for pair in raw_query[:MAX_QUERY].split("&"):
        name, _, raw_value = pair.partition("=")
        key = name.lower()
        if key in UTM or key in CHANNEL_BY_CLICK_ID:
            parameters.setdefault(key, raw_value if key in UTM else "")
    return parameters


def parse_name(raw_value: str) -> str:
    """Fold a campaign name: NFKC, lower case, hyphens for blanks; "" if anything but plain characters is left.

    Reveals: at most 40 of a-z, 0-9, dot, underscore and hyphen
    """
    folded = unicodedata.normalize("NFKC", unquote_plus(raw_value, errors="replace")).lower()
    name = "-".join(folded.split())
    return name if CAMPAIGN.fullmatch(name) else ""
