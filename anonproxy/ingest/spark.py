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

from anonproxy.ingest.jobs import Engine, Failed, Message, describe, plan_cuts
from anonproxy.ingest.pipeline import Task, import_days
from anonproxy.ingest.sources import STDIN
from anonproxy.model.errors import OperatorError

SCHEMA: Final = pa.schema([("message", pa.binary())])

CONFIG: Final = {
    "spark.app.name": "anonproxy ingest",
    "spark.python.worker.reuse": "false",  # the process that held lines and keys ends with its task
    "spark.task.maxFailures": "1",  # a task that failed is told of, not tried again unseen
    "spark.speculation": "false",  # no day is made twice
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
}


def read_on_spark(master: str, guard: Callable[[], None]) -> Engine:
    """Read on the workers of a cluster, each task beginning with `guard`."""
    try:
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
        session = builder.getOrCreate()
        try:
            cuts = plan_cuts(task, session.sparkContext.defaultParallelism)
            parts = session.range(0, len(cuts) + 1, 1, len(cuts) + 1)
            made = parts.mapInArrow(_reader(task._replace(cuts=cuts), guard), "message binary").toArrow()
        except PySparkException as error:
            raise OperatorError(f"Spark gave up ({type(error).__name__}). The logs of its workers say more") from None
        finally:
            session.stop()
        for message in made["message"]:
            match pickle.loads(message.as_py()):  # noqa: S301 - our own tasks wrote it, as Spark's own results are
                case Failed(what):
                    raise OperatorError(what)
                case known:
                    yield known

    return read


def _reader(task: Task, guard: Callable[[], None]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read_parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        guard()
        for batch in batches:
            for part in batch.column(0).to_pylist():
                for message in _read_part(task._replace(part=part)):
                    yield pa.record_batch([pa.array([pickle.dumps(message)], pa.binary())], schema=SCHEMA)

    return read_parts


def _read_part(task: Task) -> Iterator[Message | Failed]:
    try:
        yield from import_days(task)
    except Exception as error:  # Spark would write its text to a log, and it may hold a line
        yield Failed(describe(error))
