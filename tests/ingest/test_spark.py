"""Reading on a cluster: the same store as on one machine, and nothing raw on any disk of the cluster."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark
import pytest

from anonproxy.audit.marks import Mark
from anonproxy.audit.search import search
from anonproxy.clock import now
from tests.ingest.test_run_import import contents
from tests.support.invented_logs import K, invent, write_log

pytestmark = pytest.mark.slow

START_S = 90.0
CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
CONFIG = """
[store]
path = "{store}"
[privacy]
time_zone = "America/New_York"
k = {k}
[[sites]]
name = "www"
upstream = "http://127.0.0.1:9"
sitemap = ""
routes = [{{path = "/events"}}]
"""


@contextmanager
def daemon(name: str, *arguments: str, folder: Path, says: str) -> Iterator[str]:
    """Run a part of Spark until the block ends, and give what it says when it is ready."""
    log = folder / f"{name}.log"
    environment = {
        **os.environ,
        "SPARK_LOCAL_DIRS": str(folder / "scratch"),
        "SPARK_WORKER_DIR": str(folder / "work"),
        "SPARK_NO_DAEMONIZE": "1",
        "SPARK_DAEMON_MEMORY": "256m",
        "TMPDIR": str(folder / "tmp"),
    }
    with log.open("wb") as said:
        process = subprocess.Popen(
            [CLASS, f"org.apache.spark.deploy.{name}", *arguments],
            stdout=said,
            stderr=said,
            env=environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not (found := re.search(says, log.read_text(errors="replace"))):
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.2)
        yield found.group()
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """Run a master and a worker with two cores on loopback."""
    folder = tmp_path / "cluster"
    (folder / "tmp").mkdir(parents=True)
    local = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
    with (
        daemon("master.Master", *local, folder=folder, says=r"spark://127\.0\.0\.1:\d+") as master,
        daemon("worker.Worker", *local, "-c", "2", "-m", "1g", master, folder=folder, says="registered with master"),
    ):
        yield master


def ingest(tmp_path: Path, name: str, log: Path, *arguments: str) -> dict[str, bytes]:
    """Run the real command, and return what is in the store."""
    config, root, temporary = tmp_path / f"{name}.toml", tmp_path / name, tmp_path / "cluster" / "driver"
    temporary.mkdir(exist_ok=True)
    config.write_text(CONFIG.format(store=root, k=K), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "anonproxy", "ingest", "-c", str(config), *arguments, str(log)],
        capture_output=True,
        timeout=300,
        check=False,
        cwd=temporary,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(temporary),
            "TMPDIR": str(temporary),
        },
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"counted" in done.stdout
    return contents(root)


def test_a_cluster_makes_the_same_store(tmp_path: Path, cluster: str) -> None:
    """A real master and worker make, byte for byte, the days that one process makes; no line is on their disks."""
    lines = invent(days=4)
    log = write_log(tmp_path / "access.log", lines)
    made = ingest(tmp_path, "spark", log, "--engine", "spark", "--master", cluster)
    assert made == ingest(tmp_path, "processes", log)
    assert len([path for path in made if path.startswith("daily/")]) == 4
    secrets = [Mark("client address", f"203.0.113.{person}") for person in range(1, 31)]
    found = search([tmp_path / "cluster"], [*secrets, Mark("search term", "private+1"), Mark("line", lines[5].text)])
    assert found.hits == []
    assert found.files > 2
    assert search([log], secrets).hits
    assert now() > lines[-1].time_s
