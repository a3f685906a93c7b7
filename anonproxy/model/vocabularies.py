"""Closed vocabularies: every string that a column may hold, and the buckets that numbers fall into.

An auditor checks set inclusion against these tables; docs and the public "what we log" page print them.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import Final

# Placeholders say why a value is absent. Parentheses never occur in a route, a network or a domain.
UNLISTED: Final = "(unlisted)"  # fewer than k visits have shown this value
UNMATCHED: Final = "(unmatched)"  # the site answered 4xx: a guessed path is not one of the site's routes
REDACTED: Final = "(redacted)"  # a detector found something that can identify
OTHER: Final = "(other)"
INTERNAL: Final = "(internal)"
DIRECT: Final = "(direct)"

METHODS: Final = ("GET", "HEAD", "POST", "OTHER")

KINDS: Final = ("page", "search", "item", "account", "download", "asset", "api", "feed", "other")
# Library systems whose pages are known; their rules are data in anonymize/data/presets.
PRESETS: Final = (
    "aspen", "bibliocommons", "drupal", "encore", "evergreen", "ezproxy", "koha", "libcal", "libguides", "overdrive",
    "polaris", "sierra", "vufind", "wordpress",
)  # fmt: skip

# What a person looks at; the rest of the kinds load by themselves.
PAGEVIEW_KINDS: Final = frozenset({"page", "search", "item", "account", "download"})
# A page was shown, or shown again from the visitor's cache. A redirect shows nothing, and a part (206) is one of many.
PAGEVIEW_STATUSES: Final = frozenset({200, 203, 304})

CHANNELS: Final = ("direct", "internal", "search", "social", "ai", "email", "campaign", "other")

BROWSERS: Final = (
    "Chrome",
    "Firefox",
    "Safari",
    "Edge",
    "Opera",
    "Samsung Internet",
    "Internet Explorer",
    "DuckDuckGo",
    "Text browser",
    "App",
    "Other",
)
OSES: Final = ("Windows", "macOS", "iOS", "Android", "ChromeOS", "Linux", "Other")
DEVICES: Final = ("desktop", "phone", "tablet", "other")
# "" is a person; "assistant" fetches a page because a person asked an AI for it, "ai" gathers for a model.
BOTS: Final = ("", "search", "ai", "assistant", "monitor", "seo", "feed", "library", "archiver", "other")

# The 30 most spoken languages with an ISO 639-1 subtag; a rarer one could single out a household.
LANGUAGES: Final = (
    "en", "zh", "hi", "es", "fr", "ar", "bn", "pt", "ru", "ur", "id", "de", "ja", "mr", "te",
    "tr", "ta", "vi", "tl", "ko", "fa", "sw", "jv", "it", "pa", "gu", "th", "pl", "uk", "ht",
)  # fmt: skip
OTHER_LANGUAGE: Final = "other"

REMOTE: Final = "remote"  # network class of an address that no configured CIDR names

UNKNOWN_COUNTRY: Final = "??"
# ISO 3166-1 alpha-2, officially assigned codes.
COUNTRIES: Final = frozenset((
    "AD", "AE", "AF", "AG", "AI", "AL", "AM", "AO", "AQ", "AR", "AS", "AT", "AU", "AW", "AX", "AZ", "BA",
    "BB", "BD", "BE", "BF", "BG", "BH", "BI", "BJ", "BL", "BM", "BN", "BO", "BQ", "BR", "BS", "BT", "BV",
    "BW", "BY", "BZ", "CA", "CC", "CD", "CF", "CG", "CH", "CI", "CK", "CL", "CM", "CN", "CO", "CR", "CU",
    "CV", "CW", "CX", "CY", "CZ", "DE", "DJ", "DK", "DM", "DO", "DZ", "EC", "EE", "EG", "EH", "ER", "ES",
    "ET", "FI", "FJ", "FK", "FM", "FO", "FR", "GA", "GB", "GD", "GE", "GF", "GG", "GH", "GI", "GL", "GM",
    "GN", "GP", "GQ", "GR", "GS", "GT", "GU", "GW", "GY", "HK", "HM", "HN", "HR", "HT", "HU", "ID", "IE",
    "IL", "IM", "IN", "IO", "IQ", "IR", "IS", "IT", "JE", "JM", "JO", "JP", "KE", "KG", "KH", "KI", "KM",
    "KN", "KP", "KR", "KW", "KY", "KZ", "LA", "LB", "LC", "LI", "LK", "LR", "LS", "LT", "LU", "LV", "LY",
    "MA", "MC", "MD", "ME", "MF", "MG", "MH", "MK", "ML", "MM", "MN", "MO", "MP", "MQ", "MR", "MS", "MT",
    "MU", "MV", "MW", "MX", "MY", "MZ", "NA", "NC", "NE", "NF", "NG", "NI", "NL", "NO", "NP", "NR", "NU",
    "NZ", "OM", "PA", "PE", "PF", "PG", "PH", "PK", "PL", "PM", "PN", "PR", "PS", "PT", "PW", "PY", "QA",
    "RE", "RO", "RS", "RU", "RW", "SA", "SB", "SC", "SD", "SE", "SG", "SH", "SI", "SJ", "SK", "SL", "SM",
    "SN", "SO", "SR", "SS", "ST", "SV", "SX", "SY", "SZ", "TC", "TD", "TF", "TG", "TH", "TJ", "TK", "TL",
    "TM", "TN", "TO", "TR", "TT", "TV", "TW", "TZ", "UA", "UG", "UM", "US", "UY", "UZ", "VA", "VC", "VE",
    "VG", "VI", "VN", "VU", "WF", "WS", "YE", "YT", "ZA", "ZM", "ZW",
))  # fmt: skip

# Registered status codes (IANA), plus 0: the visitor left before an answer was sent.
NO_STATUS: Final = 0
STATUSES: Final = frozenset(status.value for status in HTTPStatus) | {NO_STATUS}

# Lower bounds of the buckets. Exact lengths and durations name a search term (Chen et al., IEEE S&P 2010).
SIZE_BUCKETS_BYTES: Final = (0, *(256 << power for power in range(23)))  # 24 values, 256 B to 1 GiB
DURATION_BUCKETS_MS: Final = (0, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000)
ELAPSED_BUCKETS_S: Final = (0, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 10_800)

MAX_STEP: Final = 255  # what a uint8 holds; no person looks at more pages in one visit


class DropReason(StrEnum):
    """Why a request was counted but not written."""

    UNREADABLE = "unreadable"
    BAD_ADDRESS = "bad_address"
    BAD_TIME = "bad_time"
    UNKNOWN_SITE = "unknown_site"
    OVERSIZED = "oversized"
    NO_KEY = "no_key"
    OUTSIDE_VOCABULARY = "outside_vocabulary"
    INTERNAL_ERROR = "internal_error"
    QUEUE_FULL = "queue_full"
    WRITER_DOWN = "writer_down"
    DISK = "disk"
    LATE = "late"


class Origin(StrEnum):
    """How a value came into a site's vocabulary."""

    ENUMERATED = "enumerated"  # a closed list in this module
    CONFIGURED = "configured"  # the library's own configuration
    PRESET = "preset"  # shipped rules for a library system
    LIST = "list"  # a shipped list of public sites
    SITEMAP = "sitemap"  # the site published it
    ADMITTED = "admitted"  # at least k visits of the epoch shared it
