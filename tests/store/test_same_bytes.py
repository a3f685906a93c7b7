"""The same requests give the same files, in whatever order they come and however many workers bring them."""

import threading
from pathlib import Path
from random import Random

import pytest

from anonproxy.anonymize.request import RawRequest
from anonproxy.ingest.recorder import Recorder
from anonproxy.store.seal import seal
from anonproxy.store.settle import settle
from tests.ingest.recorders import MIDDAY, World
from tests.ingest.recorders import settings as library
from tests.store.examples import DAY_S, MIDNIGHT, K, Notes, random_hits, settings, tree, write

HITS = random_hits(Random(7), 1500, hours=24)
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Googlebot/2.1", "")


def files(root: Path) -> dict[str, bytes]:
    """Return the store but for the ledger, which tells when things were done."""
    return {name: data for name, data in tree(root).items() if not name.startswith("ledger/")}


@pytest.mark.slow
def test_shuffled_rows_of_one_two_and_four_workers_give_the_same_files(tmp_path: Path) -> None:
    """Sealed hours and settled days are the same to the byte: rows with visits, in any segments."""
    found = []
    for workers in (1, 2, 4):
        root, random = tmp_path / str(workers), Random(workers)
        shuffled = random.sample(HITS, len(HITS))
        streams = [shuffled[worker::workers] for worker in range(workers)]
        while any(streams):
            stream = random.choice([stream for stream in streams if stream])
            count = random.randint(1, 400)
            write(root, stream[:count])
            del stream[:count]
            if random.random() < 0.3:
                seal(root, MIDNIGHT + random.randrange(DAY_S), Notes())
        seal(root, MIDNIGHT + 2 * DAY_S, Notes())
        sealed = files(root)
        settle(root, MIDNIGHT + 2 * DAY_S, settings(), K, Notes())
        found.append((sealed, files(root)))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) == 25
    assert len(found[0][1]) == 3


def log(count: int) -> list[RawRequest]:
    """Return an old log of visitors who want no visit numbers: those depend on a key that nobody has."""
    random = Random(8)
    return [
        RawRequest(
            MIDDAY - random.randrange(6 * 3600),
            f"198.51.100.{random.randrange(250) + 1}",
            raw_target=random.choice(("/events", "/events?page=2", "/unknown/page")),
            status=random.choice((200, 200, 304, 404)),
            size_bytes=random.randrange(100_000),
            duration_s=random.random(),
            raw_user_agent=random.choice(AGENTS),
            raw_referrer=random.choice(("", "https://www.google.com/")),
            is_opted_out=True,
        )
        for _ in range(count)
    ]


@pytest.mark.slow
def test_a_replayed_log_gives_the_same_files(tmp_path: Path) -> None:
    """From raw requests on: shuffled, and recorded by one, two and four threads at once."""
    requests, found = log(2000), []
    for workers in (1, 2, 4):
        root, world = tmp_path / str(workers), World()
        recorder = Recorder(library(root), world.clock, world.steady)
        shuffled = Random(workers).sample(requests, len(requests))

        def work(part: list[RawRequest], recorder: Recorder = recorder, world: World = world) -> None:
            for number, request in enumerate(part):
                recorder.record(request)
                if number % 97 == 0:
                    world.wait(5)
                    recorder.tick()

        threads = [threading.Thread(target=work, args=(shuffled[worker::workers],)) for worker in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        world.wait(3 * 3600)
        recorder.tick()
        recorder.keep_house()
        assert recorder.counts["written"] == len(requests)
        recorder.close()
        found.append(files(root))
    assert found[0] == found[1] == found[2]
    assert sum(name.startswith("hot/") for name in found[0]) == 6
