"""What a store is held to: its own configuration, or the loosest that any configuration may set."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from annotated_types import Ge, Le
from pydantic import BaseModel

from anonproxy.model.settings import PrivacySettings, Settings, SiteSettings, StoreSettings

RESOLUTIONS_S: Final = {"15min": 900, "1h": 3_600, "1day": 86_400}
FINEST_S: Final = min(RESOLUTIONS_S.values())


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the checks compare with."""

    source: str
    k: int
    ipv4_prefix: int
    ipv6_prefix: int
    stores_network: bool
    resolution_s: int
    visit_max_s: int
    hot_hours: int
    hits_days: int
    daily_months: int
    sites: tuple[SiteSettings, ...] | None  # None: no configuration was given

    @property
    def published(self) -> frozenset[str]:
        """Give the texts that the library itself chose, whatever they look like."""
        return frozenset(
            text
            for site in self.sites or ()
            for text in (*(route.path for route in site.routes), *site.campaigns, *site.referrers)
        )

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        """Take the bounds from a configuration."""
        privacy, store = settings.privacy, settings.store
        return cls(
            source="as configured",
            k=privacy.k,
            ipv4_prefix=privacy.ipv4_prefix,
            ipv6_prefix=privacy.ipv6_prefix,
            stores_network=privacy.store_network,
            resolution_s=RESOLUTIONS_S[privacy.time_resolution],
            visit_max_s=privacy.visit_max_h * 3_600,
            hot_hours=store.hot_hours,
            hits_days=store.hits_days,
            daily_months=store.daily_months,
            sites=settings.sites,
        )

    @classmethod
    def loosest(cls) -> Self:
        """Take the bounds that no configuration can pass."""
        return cls(
            source="the loosest that a configuration may set",
            k=_bound(PrivacySettings, "k", Ge),
            ipv4_prefix=_bound(PrivacySettings, "ipv4_prefix", Le),
            ipv6_prefix=_bound(PrivacySettings, "ipv6_prefix", Le),
            stores_network=True,
            resolution_s=FINEST_S,
            visit_max_s=_bound(PrivacySettings, "visit_max_h", Le) * 3_600,
            hot_hours=_bound(StoreSettings, "hot_hours", Le),
            hits_days=_bound(StoreSettings, "hits_days", Le),
            daily_months=_bound(StoreSettings, "daily_months", Le),
            sites=None,
        )


def digest_settings(settings: Settings) -> str:
    """Return the digest by which the ledger names a configuration."""
    return sha256(settings.model_dump_json().encode()).hexdigest()


def _bound(model: type[BaseModel], field: str, kind: type[Ge] | type[Le]) -> int:
    """Read the least or the greatest value that a setting may have."""
    constraint = next(item for item in model.model_fields[field].metadata if isinstance(item, kind))
    return int(str(constraint.ge if isinstance(constraint, Ge) else constraint.le))
