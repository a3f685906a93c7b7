"""Choose the country database: the configured one, else GeoLite2 if installed, else the shipped one."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import maxminddb

from anonproxy.anonymize.place import CountryLookup, days_old, read_bundled_country
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import CountrySettings

# Where Debian's geoipupdate, MaxMind's own packages and sysadmins put it; the first that exists is preferred.
GEOLITE2_PATHS: Final = tuple(
    Path(folder, name)
    for folder in ("/var/lib/GeoIP", "/usr/share/GeoIP", "/usr/local/share/GeoIP")
    for name in ("GeoLite2-Country.mmdb", "GeoIP2-Country.mmdb", "GeoLite2-City.mmdb")
)
# The licence wants an old copy destroyed within 30 days of an update (GeoLite2 End User License Agreement).
GEOLITE2_MAX_DAYS: Final = 30


def open_countries(settings: CountrySettings) -> CountryLookup:
    """Open the database that countries are looked up in.

    Raises: OperatorError when the configured file can't be read
    """
    path = _find_database(settings)
    return CountryLookup(_open_database(path) if path else _open_bundled())


def describe_countries(settings: CountrySettings, now_s: float) -> str:
    """Say which database is used, and whether it is too old.

    Raises: OperatorError when the configured file can't be read
    """
    path = _find_database(settings)
    if not path:
        return "from the shipped list (IPFire Location)"
    age_days = days_old(_open_database(path), datetime.fromtimestamp(now_s, UTC))
    hint = f"; its licence asks for an update after {GEOLITE2_MAX_DAYS}" if age_days > GEOLITE2_MAX_DAYS else ""
    return f"from {path}, {age_days} days old{hint}"


def _find_database(settings: CountrySettings) -> Path | None:
    if settings.database:
        return Path(settings.database)
    return next((path for path in GEOLITE2_PATHS if os.access(path, os.R_OK)), None)


def _open_bundled() -> maxminddb.Reader:
    """Open the shipped list in memory, by a name: without one the library reads it ten times as slowly."""
    with os.fdopen(os.memfd_create("anonproxy-countries"), "wb") as file:
        file.write(read_bundled_country())
        file.flush()
        return maxminddb.open_database(f"/proc/self/fd/{file.fileno()}")


def _open_database(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(str(path))
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise OperatorError(
            f"country.database: {path} can't be read as an MMDB file ({type(error).__name__}). "
            "Mend it, or name another one"
        ) from None
