"""Numbers made coarse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anonproxy.anonymize.buckets import bucket_duration, bucket_elapsed, bucket_size, bucket_status, bucket_time
from anonproxy.model.vocabularies import DURATION_BUCKETS_MS, ELAPSED_BUCKETS_S, SIZE_BUCKETS_BYTES, STATUSES


@pytest.mark.parametrize(
    ("time_s", "resolution_s", "expected"),
    [(7199.9, 3600, 3600), (7200, 3600, 7200), (899.99, 900, 0), (86_399, 86_400, 0), (-1, 3600, -3600)],
)
def test_floors_times(time_s: float, resolution_s: int, expected: int) -> None:
    """A time becomes the start of its quarter of an hour, hour or day."""
    assert bucket_time(time_s, resolution_s) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [(-1, 0), (0, 0), (255, 0), (256, 256), (511, 256), (512, 512), (9_000, 8192), (2**30, 2**30), (2**63, 2**30)],
)
def test_floors_sizes(size: int, expected: int) -> None:
    """A length becomes the power of two below it."""
    assert bucket_size(size) == expected


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [(-1, 0), (0, 0), (0.0099, 0), (0.01, 10), (0.3, 250), (29.999, 10_000), (1e9, 30_000), (float("inf"), 30_000)],
)
def test_floors_durations(duration_s: float, expected: int) -> None:
    """A duration becomes one of twelve steps, whatever the origin did."""
    assert bucket_duration(duration_s) == expected


@pytest.mark.parametrize(("elapsed_s", "expected"), [(-5, 0), (9, 0), (10, 10), (61, 60), (14_399, 10_800)])
def test_floors_elapsed(elapsed_s: int, expected: int) -> None:
    """The time since a visit began becomes one of twelve steps."""
    assert bucket_elapsed(elapsed_s) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, 0),
        (200, 200),
        (404, 404),
        (418, 418),
        (299, 200),
        (499, 400),
        (599, 500),
        (600, 0),
        (999, 0),
        (-1, 0),
        (7, 0),
    ],
)
def test_keeps_registered_statuses(status: int, expected: int) -> None:
    """A registered status stays, another becomes its class, anything else is none."""
    assert bucket_status(status) == expected


@given(st.integers(), st.floats())
def test_every_number_falls_into_a_bucket(number: int, seconds: float) -> None:
    """No number, however odd, comes out as anything but a bucket."""
    assert bucket_size(number) in SIZE_BUCKETS_BYTES
    assert bucket_elapsed(number) in ELAPSED_BUCKETS_S
    assert bucket_status(number) in STATUSES
    assert bucket_duration(seconds) in DURATION_BUCKETS_MS
