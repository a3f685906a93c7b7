"""Choose the country database: the configured one, else GeoLite2 if installed, else the shipped one."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import maxminddb

from anonproxy.anonymize.place import CountryLookup, days_old, load_bundled_country
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
    return CountryLookup(_open_database(path) if path else load_bundled_country())


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
    return next((path for path in GEOLITE2_PATHS if path.exists()), None)


def _open_database(path: Path) -> maxminddb.Reader:
    try:
        return maxminddb.open_database(str(path), maxminddb.MODE_MMAP)
    except (OSError, maxminddb.InvalidDatabaseError) as error:
        raise OperatorError(
            f"country.database: {path} can't be read as an MMDB file ({type(error).__name__}). "
            'Name another file, or write database = "" for the shipped list'
        ) from None
