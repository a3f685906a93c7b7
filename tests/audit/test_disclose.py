"""What could be handed over is told with evidence, and the value that is asked about is never repeated."""

import json
from datetime import date
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from anonproxy.audit.disclose import Answer, Disclosure, disclose, parse_address, unmap_address
from anonproxy.audit.evidence import Evidence
from anonproxy.audit.specimen import (
    HITS,
    LEDGER,
    NOW,
    SEALED,
    SEGMENT,
    Style,
    change_rows,
    plant,
    read_rows,
    sign,
    write_rows,
    write_specimen,
)
from anonproxy.cli.disclose import command
from anonproxy.model.errors import OperatorError
from anonproxy.model.parse_settings import parse_settings

ADDRESS = "203.0.113.9"
CARD = "29999001234567"
TODAY = date(2026, 11, 21)
BEFORE = date(2026, 11, 20)

SETTINGS = parse_settings(
    '[store]\npath = "/s"\n[network_classes]\nin-library = ["203.0.113.0/25"]\nstaff = ["192.0.2.0/24"]\n'
    '[[sites]]\nname = "www"\nupstream = "http://127.0.0.1:8000"\n',
    "test",
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return a clean specimen of a store."""
    write_specimen(tmp_path / "store")
    return tmp_path / "store"


def ask(store: Path, *, day: date | None = None, address: str | None = None, card: str | None = None) -> Answer:
    """Ask one thing."""
    (answer,) = disclose(Evidence(store, NOW), day=day, address=address, card=card).answers
    return answer


def look(store: Path) -> Disclosure:
    """Ask nothing."""
    return disclose(Evidence(store, NOW))


def told(answer: Answer) -> list[str]:
    """Return what an answer says."""
    return [point.answer for point in answer.points]


def run(store: Path, *arguments: str, given: str = "") -> Result:
    """Run the command."""
    return CliRunner().invoke(command, ["--store", str(store), *arguments], input=given)


# --- What there is --------------------------------------------------------------------------------------------------


def test_tables_are_listed(store: Path) -> None:
    """Each table is told with its days, files and rows, and with the first row of its oldest file."""
    holdings = {holding.tier: holding for holding in look(store).holdings}
    assert {tier: (h.first, h.last, h.files, h.rows) for tier, h in holdings.items()} == {
        "hot": (TODAY, TODAY, 2, 85),
        "hits": (BEFORE, BEFORE, 1, 60),
        "daily": (BEFORE, BEFORE, 1, 19),
        "vocabulary": (BEFORE, TODAY, 2, 40),
    }
    assert holdings["hits"].size_bytes == (store / HITS).stat().st_size
    assert holdings["hits"].sample_path == HITS
    assert {"time": "2026-11-20 09:00 UTC", "site": "www", "browser": "Firefox"}.items() <= holdings[
        "hits"
    ].sample.items()
    assert holdings["daily"].sample["date"] == "2026-11-20"


def test_empty_store_holds_nothing(tmp_path: Path) -> None:
    """Where there is nothing, that is what is told."""
    (tmp_path / "store").mkdir()
    result = run(tmp_path / "store")
    assert "this store holds no file of rows" in result.output
    assert "there is no ledger" in result.output
    assert result.exit_code == 1


def test_unreadable_file_is_told(store: Path) -> None:
    """A file that can't be read could hold anything: it is named, and the exit status says so."""
    plant(store, SEALED, b"PAR1?")
    assert [what.partition(" ")[0] for what in look(store).unread] == [SEALED]
    assert run(store).exit_code == 1


def test_nothing_is_changed(store: Path) -> None:
    """Looking locks nothing, changes nothing and leaves no entry."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    before = [(path, path.stat().st_mtime_ns, sha256(path.read_bytes()).digest()) for path in files]
    assert run(store, "--date", "2026-11-21", "--address", "--card", given=f"{ADDRESS}\n{CARD}\n").exit_code == 0
    after = sorted(path for path in store.rglob("*") if path.is_file())
    assert [(path, path.stat().st_mtime_ns, sha256(path.read_bytes()).digest()) for path in after] == before


# --- A day ----------------------------------------------------------------------------------------------------------


def test_day_that_is_settled(store: Path) -> None:
    """Of a settled day, requests can't be put together; hours are as close as times get."""
    assert told(ask(store, day=BEFORE))[:4] == [
        "Held of this day: 60 rows in hits, 19 rows in daily.",
        "Its visit numbers were deleted at 2026-11-21 14:20 UTC (www).",
        "When a request came can be told in whole hours; the order of rows tells nothing more.",
        "Which requests one person made can't be told: no row holds a number of a visit.",
    ]


def test_day_that_is_hot(store: Path) -> None:
    """Of a day with visit numbers it is told that there are, how many, and until when."""
    assert told(ask(store, day=TODAY))[2] == (
        "Which requests belong to one visit can still be told, for 17 visits; whose visit, can't. Who already knows "
        "when somebody came, and with what device, could guess which visit was theirs. The numbers are deleted by "
        "2026-11-23 00:00 UTC at the latest."
    )


def test_day_of_which_nothing_is_held(store: Path) -> None:
    """Of a day without files, nothing is held; where the ledger knows why, it is told."""
    assert told(ask(store, day=date(2026, 1, 1))) == ["Nothing is held of this day."]
    sign(store, "purged", {"tier": "hits", "site": "www", "date": "2026-01-01"})
    assert told(ask(store, day=date(2026, 1, 1)))[1] == (
        "Files of this day were deleted because of their age at 2026-11-21 14:20 UTC (www, hits)."
    )


def test_what_should_not_be_is_told_as_it_is(store: Path) -> None:
    """Times that are too fine, an order that tells something and columns of others are told, not glossed over."""
    rows = read_rows(store, SEGMENT)
    rows[0]["time"] = rows[0]["time"].replace(second=7)
    style = Style(is_sorted=False, extra={"client": pa.string()})
    write_rows(store, SEGMENT, [{**row, "client": "x"} for row in reversed(rows)], style)
    answers = told(ask(store, day=TODAY))
    assert "can be told too closely; the order of rows may tell more" in answers[1]
    assert answers[-1] == "There are columns that this software doesn't write."
    assert told(ask(store, card=CARD))[-1] == "There are columns that this software doesn't write."


# --- An address -----------------------------------------------------------------------------------------------------


def test_address_leads_to_a_crowd(store: Path) -> None:
    """An address whose network is held leads to all addresses of that network, and to no visit."""
    answer = ask(store, address=ADDRESS)
    assert answer.is_clean
    assert told(answer)[:3] == [
        "The address stands nowhere in this store.",
        "Its network 203.0.113.0/24 stands in 60 rows, from 2026-11-20 to 2026-11-21: requests from any of 256 "
        "addresses. Which of them, can't be told; nor that the address asked about is among them.",
        "56 of 145 rows hold no network at all: any of them could be from this address, or any other.",
    ]
    assert "at least 10 visits shared this network" in answer.points[1].evidence
    assert "those that asked within five minutes" in told(answer)[3]
    assert "Those made before 2026-11-21 04:00 UTC can't be computed again" in told(answer)[4]


def test_address_whose_network_is_not_held(store: Path) -> None:
    """An address whose network nobody or too few shared leads nowhere."""
    assert told(ask(store, address="198.51.100.7"))[1] == (
        "The narrowest network that could stand for it is 198.51.100.0/24 (256 addresses). Neither it nor a wider one "
        "around it is held, so no row leads even that far."
    )
    assert "2001:db8:" in told(ask(store, address="2001:db8:1:2::3"))[1]


def test_address_of_a_class(store: Path) -> None:
    """The class that the configuration gives an address is told, with how many rows share it."""
    (answer,) = disclose(Evidence(store, NOW, SETTINGS), settings=SETTINGS, address=ADDRESS).answers
    assert told(answer)[2].startswith("The configuration counts it to the class “in-library”, which stands in 0 rows")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" [2001:db8::9%eth0] ", "2001:db8::9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2002:cb00:7109::1", "203.0.113.9"),
        ("64:ff9b::cb00:7109", "203.0.113.9"),
        ("2001:0:c000:201:0:0:34ff:8ef6", "203.0.113.9"),
    ],
)
def test_addresses_are_read_as_people_write_them(text: str, plain: str) -> None:
    """An IPv4 address that came in an IPv6 one is asked about as what it is."""
    assert str(unmap_address(parse_address(text))) == plain


def test_visits_without_a_ledger_are_not_made_harmless(store: Path) -> None:
    """Where the ledger doesn't show that keys were destroyed, it is not claimed."""
    (store / LEDGER).write_bytes((store / LEDGER).read_bytes().replace(b"rotated", b"resumed"))
    answer = ask(store, address=ADDRESS)
    assert "nothing shows" in told(answer)[-1]
    assert "it doesn't verify: entry 2: its signature" in answer.points[-1].evidence
    assert run(store).exit_code == 1


def test_visits_of_the_present_key_are_not_made_harmless(store: Path) -> None:
    """Of the key that is still in memory it is told that there it is."""
    assert "Who could read that memory could compute them" in told(ask(store, address=ADDRESS))[-1]


def test_planted_address_is_found(store: Path) -> None:
    """An address that does stand there, in whatever form, is found and told."""
    plant(store, "hot/notes", b"client=0xcb007109")
    answer = ask(store, address=ADDRESS)
    assert not answer.is_clean
    assert [found.rpartition("/")[2] for found in answer.found] == ["notes: as IPv4 hex, IPv4 hex digits"]
    assert told(answer)[0] == "In this store the address was found, in 1 place. It should not be there."


# --- A card number --------------------------------------------------------------------------------------------------


def test_card_leads_nowhere(store: Path) -> None:
    """A card number stands nowhere, and there is no place for one."""
    answer = ask(store, card=" 2 9999 00123 4567 ")
    assert answer.is_clean
    assert told(answer) == [
        "The number stands nowhere in this store.",
        "No table has a place for card numbers, names or accounts, so there is nothing to look up by one.",
        "Nothing about a cardholder can be answered from here. What the library system holds is another matter.",
    ]


def test_planted_card_is_found(store: Path) -> None:
    """A card number in a stored route is found, though a store compresses its pages."""
    change_rows(store, SEALED, lambda rows: rows[0].update(route=f"/patron/{CARD}"))
    answer = ask(store, card=CARD)
    assert told(answer)[0].startswith("In this store the number was found, in ")
    assert SEALED in answer.found[0]


# --- The command ----------------------------------------------------------------------------------------------------


def test_values_are_read_from_standard_input_and_not_repeated(store: Path) -> None:
    """Address and card are read from standard input in this order, and neither stands in the output."""
    for form in ((), ("--json",)):
        result = run(store, "--address", "--card", *form, given=f"{ADDRESS}\n{CARD}\n")
        assert result.exit_code == 0, result.output
        assert "stands nowhere" in result.output
        assert ADDRESS not in result.output
        assert CARD not in result.output


def test_found_value_is_not_repeated_either(store: Path) -> None:
    """Where the value was found, in a file named after it, its place is told and not the value."""
    plant(store, f"hot/{CARD}.txt", CARD.encode())
    result = run(store, "--card", "-", given=CARD)
    assert result.exit_code == 1
    assert "should not be there" in result.output
    assert CARD not in result.output


def test_json_has_everything(store: Path) -> None:
    """The JSON has tables, ledger and answers."""
    read = json.loads(run(store, "--date", "2026-11-21", "--json").output)
    assert [table["tier"] for table in read["tables"]] == ["hot", "hits", "daily", "vocabulary"]
    assert read["ledger"] == {
        "entries": 5,
        "broken": "",
        "since": "2026-11-20 00:00 UTC",
        "rotations": 1,
        "deletions": 0,
    }
    assert read["answers"][0]["points"][0]["answer"] == "Held of this day: 85 rows in hot."
    assert read["answers"][0]["is_clean"] is True


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (("--address",), "example.org\n", "not an IP address"),
        (("--address",), "", "address: none was given"),
        (("--card",), "123\n", "too short to search for"),
        (("--date", "yesterday"), "", "--date: not a day"),
    ],
)
def test_slips_are_told(store: Path, arguments: tuple[str, ...], given: str, message: str) -> None:
    """What can't be asked is refused with what to write, and without repeating it."""
    result = run(store, *arguments, given=given)
    assert isinstance(result.exception, OperatorError)
    assert message in str(result.exception)
    assert not given.strip() or given.strip() not in str(result.exception)
