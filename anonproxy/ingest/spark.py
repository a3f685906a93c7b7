"""Reading on a cluster: each task of Spark has a range of days, as each process has on one machine.

What goes to the workers is names of files, settings and dates; what comes back is days as they will lie in the store,
and counts. A task opens the logs itself, so Spark never holds a line: nothing raw can reach a shuffle, a spill or a log
of an executor. Keys are made in the task that needs them, since whatever Spark sends to its workers it also writes to
their disks. The logs must stand under the same names on all workers, and anonproxy must be installed there.
"""

import os
import pickle
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Final

import pyarrow as pa

from anonproxy.ingest.jobs import Engine, Message, plan_cuts, read_packed, unpack
from anonproxy.ingest.mistakes import without_text
from anonproxy.ingest.pipeline import Task
from anonproxy.ingest.sources import STDIN
from anonproxy.model.errors import OperatorError

SCHEMA: Final = pa.schema([("message", pa.binary())])

CONFIG: Final = {
    "spark.app.name": "anonproxy ingest",
    "spark.python.worker.reuse": "false",  # the process that held lines and keys ends with its task
    "spark.task.maxFailures": "1",  # a task that failed is told of, not tried again unseen
    "spark.speculation": "false",  # no day is made twice
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
}


def read_on_spark(master: str, guard: Callable[[], None]) -> Engine:
    """Read on the workers of a cluster, each task beginning with `guard`."""
    try:
        from py4j.protocol import Py4JError  # type: ignore[import-untyped]  # it has none
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise OperatorError(
            "Spark is not installed. `pip install anonproxy[spark]` brings it, and it needs Java"
        ) from None

    def read(task: Task) -> Generator[Message]:
        if any(source.path == STDIN for source in task.sources):
            raise OperatorError("what comes from a pipe can't be read on a cluster. Leave --engine out")
        os.environ["PYSPARK_PYTHON"] = sys.executable
        builder = SparkSession.builder.master(master)
        for name, value in CONFIG.items():
            builder = builder.config(name, value)
        try:
            with builder.getOrCreate() as session:
                count = session.sparkContext.defaultParallelism
                with without_text():
                    cuts = plan_cuts(task, count)
                parts = session.range(0, len(cuts) + 1, 1, len(cuts) + 1)
                made = parts.mapInArrow(_reader(task._replace(cuts=cuts), guard), "message binary").toArrow()
        except (PySparkException, Py4JError) as error:
            raise OperatorError(
                f"Spark gave up ({type(error).__name__}). Is {master} its master? The logs of its workers say more"
            ) from None
        for message in made["message"]:
            yield unpack(message.as_py())

    return read


def _reader(task: Task, guard: Callable[[], None]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read_parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for part in batch.column(0).to_pylist():
                for packed in read_packed(pickle.dumps(task._replace(part=part)), guard):
                    yield pa.record_batch([pa.array([packed], pa.binary())], schema=SCHEMA)

    return read_parts
