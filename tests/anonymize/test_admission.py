"""Open values are written in clear once k visits have shown them."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.admission import MAX_CANDIDATES, MAX_CHARACTERS, Admission
from anonproxy.model.vocabularies import Origin
from anonproxy.model.vocabulary import Entry, Vocabulary

K = 5


@pytest.fixture
def vocabulary() -> Vocabulary:
    """Give an empty vocabulary."""
    return Vocabulary()


@pytest.fixture
def admission(vocabulary: Vocabulary) -> Admission:
    """Give an admission with k = 5 and room for three routes."""
    return Admission(K, 3, vocabulary)


def observe(admission: Admission, site: str, column: str, value: str, visitor: int | None) -> bool:
    """Show a value to a visitor, and tell whether it may be written."""
    return admission.find_shared(site, column, [value], visitor) == [value]


def admit(admission: Admission, value: str, column: str = "route", site: str = "www") -> list[bool]:
    """Show a value in k visits and return the answers."""
    return [observe(admission, site, column, value, visit) for visit in range(1, K + 1)]


def test_the_kth_visit_admits(admission: Admission, vocabulary: Vocabulary) -> None:
    """Visits 1 to k-1 see no value, the k-th does, and the vocabulary says how it came in."""
    assert admit(admission, "/a") == [False] * (K - 1) + [True]
    assert vocabulary.entries("www") == [Entry("www", "route", "/a", Origin.ADMITTED, K)]


def test_one_visit_never_admits(admission: Admission) -> None:
    """A visit counts once, however often it comes back."""
    assert not any(observe(admission, "www", "route", "/a", 7) for _ in range(1000))


def test_requests_without_a_visit_count_for_nothing(admission: Admission) -> None:
    """Opt-outs and robots never admit a value, and may use one that others admitted."""
    assert not any(observe(admission, "www", "route", "/a", None) for _ in range(100))
    admit(admission, "/a")
    assert observe(admission, "www", "route", "/a", None)


def test_sites_and_columns_are_counted_apart(admission: Admission) -> None:
    """What is admitted for one column of one site is unknown elsewhere."""
    admit(admission, "/a")
    assert not observe(admission, "www", "referrer", "/a", 9)
    assert not observe(admission, "other", "route", "/a", 9)


def test_routes_past_the_cap_are_never_admitted(admission: Admission) -> None:
    """With three routes allowed the fourth stays unlisted, while another column goes on."""
    answers = [admit(admission, f"/{name}")[-1] for name in "abcd"]
    assert answers == [True, True, True, False]
    assert admit(admission, "example.org", "referrer")[-1]


def test_the_epochs_end_forgets_everything(admission: Admission, vocabulary: Vocabulary) -> None:
    """After the end of the epoch a value starts from nothing, and the vocabulary no longer allows it."""
    admit(admission, "/a")
    for visit in range(1, K):
        observe(admission, "www", "route", "/b", visit)
    admission.forget()
    assert vocabulary.entries("www") == []
    assert not observe(admission, "www", "route", "/a", 99)
    assert not observe(admission, "www", "route", "/b", 99)


def test_overlong_values_are_never_admitted(admission: Admission) -> None:
    """A value longer than any real one is not even counted."""
    assert not any(admit(admission, "/" + "a" * MAX_CHARACTERS))


def test_a_flood_of_values_costs_bounded_memory_and_hides_no_page(admission: Admission) -> None:
    """While somebody sends endless new paths, memory stays flat and a page in use is still admitted."""
    tracemalloc.start()
    try:
        for number in range(3 * MAX_CANDIDATES):
            observe(admission, "www", "route", f"/{number:0100}", number)
            if number % (MAX_CANDIDATES // 2) == 0:
                observe(admission, "www", "route", "/popular", number)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 25_000_000
    assert observe(admission, "www", "route", "/popular", 1_000_000)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 12) | st.none())))
def test_admits_exactly_the_values_with_k_distinct_visits(seen: list[tuple[str, int | None]]) -> None:
    """Against a plain count of distinct visits, no answer is ever early or late."""
    admission = Admission(K, 1000, Vocabulary())
    visits: dict[str, set[int]] = {value: set() for value in "abcdef"}
    for value, visit in seen:
        visits[value] |= {visit} - {None}  # type: ignore[arg-type]
        assert observe(admission, "www", "route", value, visit) is (len(visits[value]) >= K)


def test_values_are_counted_together(admission: Admission) -> None:
    """Of several values each is counted by itself, and what is shared comes in the order asked for."""
    networks = [["203.0.113.0/24", "203.0.0.0/16"], ["203.0.112.0/24", "203.0.0.0/16"]]
    shared = [admission.find_shared("www", "network", networks[number % 2], number) for number in range(2 * K)]
    assert shared[: K - 1] == [[]] * (K - 1)
    assert shared[K - 1] == ["203.0.0.0/16"]
    assert shared[-2:] == networks
