"""Visits: what belongs together, and when that ends."""

import tracemalloc

import pytest

from anonproxy.keys.ring import KeyRing
from anonproxy.keys.visits import Visits
from anonproxy.model.hit import VisitMark
from anonproxy.model.settings import PrivacySettings

NOON = 1_772_470_800.0
IDLE_S, MAX_S = 1800, 4 * 3600
ALICE, BOB = (b"cookie", b"PHPSESSID", b"a"), (b"cookie", b"PHPSESSID", b"b")


@pytest.fixture
def ring() -> KeyRing:
    """Give a ring at noon; its epoch ends at four in the morning."""
    return KeyRing(PrivacySettings(time_zone="America/New_York"), NOON)


@pytest.fixture
def visits(ring: KeyRing) -> Visits:
    """Give visits with the default limits."""
    return Visits(ring, IDLE_S, MAX_S)


def mark(visits: Visits, after_s: float, raw_parts: tuple[bytes, ...] = ALICE, is_pageview: bool = True) -> VisitMark:
    """Mark a request so many seconds after noon."""
    marked = visits.mark("www", raw_parts, NOON + after_s, is_pageview)
    assert marked is not None
    return marked


def test_a_visit_goes_on(visits: Visits) -> None:
    """Requests of one session share a number, count pages, and tell the seconds since the first."""
    first = mark(visits, 0)
    assert mark(visits, 61.9) == VisitMark(first.visit, 2, 61, first.visitor)
    assert mark(visits, 61.9 + IDLE_S) == VisitMark(first.visit, 3, 61 + IDLE_S, first.visitor)


CARD, LATER = (b"cookie", b"CGISESSID", b"c"), (b"cookie", b"CGISESSID", b"d")


def test_a_visit_goes_on_under_the_cookie_that_it_was_given(visits: Visits) -> None:
    """The first page, which brings the cookie, and the pages that show it are one visit of one visitor."""
    first = mark(visits, 0)
    visits.hand_over("www", ALICE, CARD)
    assert mark(visits, 5, CARD) == VisitMark(first.visit, 2, 5, first.visitor)
    visits.hand_over("www", CARD, LATER)  # a login that changes the cookie
    assert mark(visits, 9, LATER) == VisitMark(first.visit, 3, 9, first.visitor)


def test_the_next_person_at_a_terminal_begins_anew(visits: Visits) -> None:
    """Once a visit has moved to its cookie, whoever comes from the same address without one isn't chained to it."""
    first = mark(visits, 0)
    visits.hand_over("www", ALICE, CARD)
    mark(visits, 5, CARD)
    assert mark(visits, 60).visit != first.visit


def test_whoever_refuses_cookies_stays_one_visit(visits: Visits) -> None:
    """A new cookie with each page, none of them ever sent back, leaves one visit and one expectation."""
    first = mark(visits, 0)
    for number in range(100):
        visits.hand_over("www", ALICE, (b"cookie", b"CGISESSID", b"%d" % number))
        assert mark(visits, number).visit == first.visit
    assert len(visits._heirs) == 1


def test_a_cookie_that_somebody_uses_takes_over_nothing(visits: Visits) -> None:
    """A session that is alive keeps its own visit, whatever an answer sets."""
    own = mark(visits, 0, CARD)
    mark(visits, 1)
    visits.hand_over("www", ALICE, CARD)
    assert mark(visits, 2, CARD).visit == own.visit


def test_an_expectation_ends_with_its_visit(visits: Visits) -> None:
    """A cookie that shows up after the visit is over begins a new one, and nothing is remembered of the old."""
    first = mark(visits, 0)
    visits.hand_over("www", ALICE, CARD)
    assert mark(visits, 31 * 60, CARD).visit != first.visit
    visits.forget()
    assert not visits._heirs


ENDS = [
    ("31 minutes of silence", [0, 31 * 60], 2),
    ("30 minutes of silence", [0, 30 * 60], 1),
    ("a page every 29 minutes for five hours", [29 * 60 * n for n in range(11)], 2),
    ("a request from long before", [0, -31 * 60], 2),
    ("a request that overtook another", [0, -5, 3], 1),
]


@pytest.mark.parametrize(("times", "numbers"), [case[1:] for case in ENDS], ids=[case[0] for case in ENDS])
def test_a_visit_ends(visits: Visits, times: list[float], numbers: int) -> None:
    """Silence and length end a visit, and the next one of the same session has another number."""
    assert len({mark(visits, after_s).visit for after_s in times}) == numbers


def test_a_new_visit_starts_from_the_beginning(visits: Visits) -> None:
    """Step and elapsed time don't show that there was a visit before."""
    mark(visits, 0)
    mark(visits, 10)
    assert mark(visits, 31 * 60 + 10)[1:3] == (1, 0)


def test_what_loads_by_itself_is_no_step(visits: Visits) -> None:
    """An image carries the step of its page; one before any page carries 0."""
    steps = [mark(visits, n, is_pageview=is_page).step for n, is_page in enumerate([False, True, False, False, True])]
    assert steps == [0, 1, 1, 1, 2]


def test_steps_fit_their_column(visits: Visits) -> None:
    """The 300th page has step 255."""
    assert [mark(visits, n).step for n in range(300)][-1] == 255


def test_time_never_runs_backwards_in_a_visit(visits: Visits) -> None:
    """A request that was overtaken by its visit's first one is not before it."""
    mark(visits, 0)
    assert mark(visits, -5).elapsed_s == 0


def test_sessions_and_sites_are_apart(visits: Visits) -> None:
    """Another session has another number, and so has the same cookie on another site."""
    alice, bob = mark(visits, 0).visit, mark(visits, 0, BOB).visit
    elsewhere = visits.mark("kids", ALICE, NOON, True)
    assert elsewhere is not None
    assert len({alice, bob, elsewhere.visit}) == 3


def test_a_visit_does_not_survive_its_key(ring: KeyRing, visits: Visits) -> None:
    """After the rotation the same session has another number."""
    before = mark(visits, 0).visit
    assert ring.rotate_when_due(ring.destroy_after)
    visits.forget()
    assert mark(visits, 1).visit != before


def test_without_a_key_nothing_is_marked(ring: KeyRing, visits: Visits) -> None:
    """A key that was wiped, or whose time is over although nobody rotated it, marks nothing."""
    assert visits.mark("www", ALICE, ring.destroy_after, True) is None
    ring.wipe()
    assert visits.mark("www", ALICE, NOON, True) is None


def test_visits_that_are_over_leave_memory(visits: Visits) -> None:
    """After half an hour of silence nothing is known of a visit, whoever comes next."""
    for number in range(1000):
        mark(visits, 0, (b"%d" % number,))
    assert len(visits) == 1000
    mark(visits, IDLE_S + 1)
    assert len(visits) == 1


def test_a_flood_of_sessions_costs_bounded_memory(ring: KeyRing) -> None:
    """With room for 10,000 visits, 40,000 sessions take no more room, and a visit that goes on is kept."""
    visits = Visits(ring, IDLE_S, MAX_S, max_live=10_000)
    first = mark(visits, 0).visit
    tracemalloc.start()
    try:
        for number in range(40_000):
            mark(visits, number / 1000, (b"%d" % number,))
            if number % 5_000 == 0:
                assert mark(visits, number / 1000).visit == first
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(visits) == 10_000
    assert size < 6_000_000


def test_visits_show_nothing(visits: Visits) -> None:
    """Neither tags nor times appear in their repr."""
    mark(visits, 0)
    assert repr(visits) == "Visits(…)"


def test_one_person_is_one_visitor(visits: Visits) -> None:
    """All visits of a session within an epoch are one visitor, so that nobody admits a page by coming back."""
    first, second = mark(visits, 0), mark(visits, 31 * 60)
    assert first.visit != second.visit
    assert first.visitor == second.visitor
    assert mark(visits, 0, BOB).visitor != first.visitor
