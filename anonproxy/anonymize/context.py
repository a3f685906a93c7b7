"""What the steps know beside the request: the settings, the sites' routes, and what the epoch has admitted so far."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from anonproxy.anonymize.address import Address, Network, classify_network, mask_address, order_classes, parse_client
from anonproxy.anonymize.admission import Admission
from anonproxy.anonymize.agent import sort_agent
from anonproxy.anonymize.buckets import RESOLUTIONS_S
from anonproxy.anonymize.language import preferred_language
from anonproxy.anonymize.path import _find_unicode_flaw
from anonproxy.anonymize.referrer import CHANNEL_BY_SITE, Referrer, parse_host, parse_name, parse_referrer
from anonproxy.anonymize.route import Route, Routes
from anonproxy.model.hit import VisitMark
from anonproxy.model.settings import Settings, SiteSettings
from anonproxy.model.vocabularies import (
    DIRECT,
    INTERNAL,
    OTHER,
    OTHER_LANGUAGE,
    REDACTED,
    REMOTE,
    UNLISTED,
    UNMATCHED,
    Origin,
)
from anonproxy.model.vocabulary import Entry, Vocabulary

# Texts that one cache remembers, and the longest of them: a few MB at most, whoever tries to fill it.
CACHED_TEXTS: Final = 8_192
MAX_CACHED_CHARS: Final = 256

# A host name has at most 253 characters (RFC 1035 section 2.3.4); then a dot and a port.
MAX_HOST_CHARS: Final = 260


class RawCache[T]:
    """Answers for raw texts that come again and again, in memory until the epoch ends.

    Reveals: what the function reveals
    """

    def __init__(self, function: Callable[..., T], size: int) -> None:
        self._function = function
        self._cached = lru_cache(size)(function)

    def __call__(self, raw: str, *rest: Hashable) -> T:
        return self._cached(raw, *rest) if len(raw) <= MAX_CACHED_CHARS else self._function(raw, *rest)

    def cache_clear(self) -> None:
        """Forget every text.

        Reveals: nothing
        """
        self._cached.cache_clear()


class VisitTagger(Protocol):
    """What numbers visits; `keys.Visits` does."""

    def mark(self, site: str, raw_parts: tuple[bytes, ...], time_s: float, is_pageview: bool) -> VisitMark | None:
        """Place a request in its visit, or return None when there is no key for its time.

        Reveals: a keyed hash of the session and the visit's start
        """
        ...

    def hand_over(self, site: str, raw_parts: tuple[bytes, ...], raw_next_parts: tuple[bytes, ...]) -> None:
        """Let the visit go on under another session, once that one shows up.

        Reveals: nothing
        """
        ...


class Countries(Protocol):
    """What knows countries; `place.CountryLookup` does."""

    def country(self, address: Address) -> str:
        """Name the country of an address.

        Reveals: the country
        """
        ...


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # to hash an address takes longer than most questions
class Client:
    """What is known from an address. The address itself goes into the tagger and nowhere else."""

    address: Address
    network_class: str
    country: str
    networks: tuple[str, ...]  # from the narrowest that may be stored to the widest


class Site:
    """One site in the form in which the steps ask for it.

    Reveals: nothing about a visitor
    """

    def __init__(self, settings: SiteSettings, cached_texts: int) -> None:
        self.name = settings.name
        self.session_cookies = settings.session_cookies
        self.campaigns = frozenset(map(parse_name, settings.campaigns)) - {""}
        self.referrers = frozenset(host.removeprefix("*.") for host in settings.referrers)
        self.routes = Routes(settings)
        self._hosts = frozenset(settings.hosts)
        self.match_route: RawCache[Route] = RawCache(self.routes.match, cached_texts)
        self.read_referrer: RawCache[Referrer] = RawCache(self._read_referrer, cached_texts)

    def _read_referrer(self, raw_referrer: str, raw_host: str) -> Referrer:
        # The host of the request counts as the site's own, so that a site for any host knows itself.
        return parse_referrer(raw_referrer, self._hosts | {fold_host(raw_host)}, self.referrers)


class Context:
    """What the steps know beside the request. One thread at a time.

    Reveals: nothing about a visitor
    """

    def __init__(
        self, settings: Settings, tagger: VisitTagger, countries: Countries, cached_texts: int = CACHED_TEXTS
    ) -> None:
        self.tagger = tagger
        self.resolution_s = RESOLUTIONS_S[settings.privacy.time_resolution]
        self.languages = frozenset(settings.privacy.languages)
        self.stores_network = settings.privacy.store_network
        self.read_client: RawCache[Client | None] = RawCache(self._read_client, cached_texts)
        self.find_site: RawCache[tuple[str, Site] | None] = RawCache(self._find_site, cached_texts)
        self._privacy = settings.privacy
        self._countries = countries
        self._classes: tuple[tuple[Network, str], ...] = order_classes(settings.network_classes)
        self._sites = {site.name: Site(site, cached_texts) for site in settings.sites}
        self._site_by_host: Mapping[str, Site] = {
            host: self._sites[name] for host, name in settings.site_hosts().items()
        }
        self.vocabulary = Vocabulary(self._lasting_entries())
        self._allow_routes()
        self.admission = Admission(settings.privacy.k, settings.privacy.max_routes, self.vocabulary)

    def learn_routes(self, site: str, paths: Iterable[str]) -> None:
        """Take the pages that a site publishes into its routes.

        Reveals: nothing about a visitor
        """
        self._sites[site].routes.learn(paths)
        self._sites[site].match_route.cache_clear()
        self._allow_routes()

    def forget(self) -> None:
        """Forget what the epoch admitted, and every raw text that a cache still holds.

        Reveals: nothing
        """
        self.forget_admitted()
        own = (cache for site in self._sites.values() for cache in (site.match_route, site.read_referrer))
        for cache in (self.read_client, self.find_site, *own, *MODULE_CACHES):
            cache.cache_clear()

    def forget_admitted(self) -> None:
        """Forget what the epoch admitted.

        Reveals: nothing
        """
        self.admission.forget()
        self._allow_routes()  # a page that was admitted first and learned from the sitemap later stays

    def _read_client(self, raw_client: str) -> Client | None:
        address = parse_client(raw_client)
        if address is None:
            return None
        privacy = self._privacy
        return Client(
            address,
            classify_network(address, self._classes),
            self._countries.country(address),
            mask_address(address, privacy.ipv4_prefix, privacy.ipv6_prefix),
        )

    def _find_site(self, raw_host: str) -> tuple[str, Site] | None:
        """Find the site of a host, and the configured name that fits: the host, a `*.` above it, or `*`."""
        host = fold_host(raw_host[:MAX_HOST_CHARS])
        labels = host.split(".")
        above = (f"*.{'.'.join(labels[depth:])}" for depth in range(1, len(labels)))
        named = (name for name in (host, *above, "*") if name in self._site_by_host)
        return next(((name, self._site_by_host[name]) for name in named), None)

    def _allow_routes(self) -> None:
        for site in self._sites.values():
            for route, origin in site.routes.templates():
                self.vocabulary.add(Entry(site.name, "route", route, origin))

    def _lasting_entries(self) -> Iterator[Entry]:
        """List what may be stored whoever visits, beside the sites' routes."""
        classes = {REMOTE, *(name for _, name in self._classes)}
        for site in self._sites.values():
            for column, origin, values in (
                ("route", Origin.ENUMERATED, (UNLISTED, UNMATCHED, REDACTED)),
                ("network_class", Origin.CONFIGURED, classes),
                ("referrer", Origin.ENUMERATED, (DIRECT, INTERNAL, OTHER)),
                ("referrer", Origin.CONFIGURED, site.referrers),
                ("referrer", Origin.LIST, CHANNEL_BY_SITE),
                ("campaign", Origin.ENUMERATED, (OTHER,)),
                ("campaign", Origin.CONFIGURED, site.campaigns),
                ("language", Origin.CONFIGURED, {OTHER_LANGUAGE, *self.languages}),
            ):
                yield from (Entry(site.name, column, value, origin) for value in values)


# The caches of other modules that have raw text for a key.
MODULE_CACHES: Final = (sort_agent, preferred_language, _find_unicode_flaw, parse_host)


def fold_host(raw_host: str) -> str:
    """Fold a Host header: lower case, without port and without the dot of the root.

    Reveals: the host, which is only compared with configured ones
    Source:  RFC 9110 section 7.2, RFC 3986 section 3.2.2
    """
    host = raw_host.strip().lower()
    name, colon, port = host.rpartition(":")
    is_ported = colon and not port.strip("0123456789") and not host.endswith("]")
    return (name if is_ported else host).rstrip(".")
