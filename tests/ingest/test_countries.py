"""The country database: the configured one, else GeoLite2 where it can be read, else the shipped one."""

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.place import CountryLookup, load_bundled_country
from anonproxy.clock import now
from anonproxy.ingest import countries
from anonproxy.ingest.countries import describe_countries, open_countries
from anonproxy.model.errors import OperatorError
from anonproxy.model.settings import CountrySettings

SHIPPED: Final = CountryLookup(countries._open_bundled())
FROM_BYTES: Final = CountryLookup(load_bundled_country())


def test_what_can_not_be_read_is_as_if_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has asked for GeoLite2 where it lies by chance, so without it the shipped list is taken."""
    dangling = tmp_path / "GeoLite2-Country.mmdb"
    dangling.symlink_to("missing.mmdb")
    monkeypatch.setattr(countries, "GEOLITE2_PATHS", (tmp_path / "none.mmdb", dangling))
    assert describe_countries(CountrySettings(), now()) == "from the shipped list (IPFire Location)"


@pytest.mark.parametrize("is_configured", [True, False])
def test_a_broken_database_is_named(tmp_path: Path, is_configured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever put it there learns which file it is, wherever its name came from."""
    broken = tmp_path / "broken.mmdb"
    broken.write_text("no database")
    monkeypatch.setattr(countries, "GEOLITE2_PATHS", (broken,))
    with pytest.raises(OperatorError, match=r"broken\.mmdb can't be read as an MMDB file \(InvalidDatabaseError\)"):
        open_countries(CountrySettings(database=str(broken) if is_configured else ""))


@pytest.mark.needs_samples
def test_geolite2_is_preferred_to_the_shipped_list(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that is there is taken, and its age told."""
    database = samples / "GeoLite2-Country-Test.mmdb"
    monkeypatch.setattr(countries, "GEOLITE2_PATHS", (Path("/missing.mmdb"), database))
    told = describe_countries(CountrySettings(), now())
    assert told.startswith(f"from {database}, ")
    assert "licence asks for an update" in told


@given(st.ip_addresses())
def test_the_shipped_list_says_the_same_by_name_as_from_bytes(address: IPv4Address | IPv6Address) -> None:
    """How it is opened changes how fast it answers, and nothing else."""
    assert SHIPPED.country(address) == FROM_BYTES.country(address)
