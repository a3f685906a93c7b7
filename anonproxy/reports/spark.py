"""The same reports on Spark, for stores that have outgrown one machine: the same .sql files, translated by sqlglot.

Settled days only: those of the last two days are few, and DuckDB has them. Filters, and cells gathered over several
days, are DuckDB's, too.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from anonproxy.model.errors import OperatorError
from anonproxy.model.vocabularies import PAGEVIEW_KINDS, PAGEVIEW_STATUSES
from anonproxy.reports.run import Query, Report, run_report

try:
    import sqlglot
    from pyspark.sql import DataFrame, SparkSession
except ImportError:
    raise OperatorError("Spark is not installed. Install anonproxy[spark], and a Java runtime") from None


class Result:
    """What a query gave, as DuckDB would hand it over."""

    def __init__(self, frame: DataFrame) -> None:
        self._frame = frame
        self.description = [(name,) for name in frame.columns]

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        return [tuple(row) for row in self._frame.collect()]


class SparkReports:
    """The settled days of a store, open to be asked through Spark.

    Shape: path is anything that Spark reads: a folder, or s3a://BUCKET/PREFIX with Spark's own settings for it
    """

    def __init__(self, spark: SparkSession, path: str, k: int) -> None:
        self.k = k
        self._spark = spark
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        spark.read.parquet(f"{path}/daily").createOrReplaceTempView("daily")
        hits = spark.read.parquet(f"{path}/hits")
        hits.selectExpr(
            "*", f"{_is_pageview()} AS is_pageview", "CAST(NULL AS BIGINT) AS visit"
        ).createOrReplaceTempView("hits")

    def run(self, name: str, query: Query) -> Report:
        """Answer a report.

        Raises: OperatorError when there is no such report, or filters are asked for
        """
        if query.where:
            raise OperatorError("filters work without Spark only: leave --engine spark away")
        return run_report(self, name, query, self.k)

    def execute(self, query: str, parameters: Mapping[str, Any] | None = None) -> Result:
        """Run a query in DuckDB's dialect."""
        return Result(self._spark.sql(translate(query), args=dict(parameters or {})))

    def stop(self) -> None:
        """End Spark."""
        self._spark.stop()


def open_spark(path: str, k: int, options: Mapping[str, str]) -> SparkReports:
    """Open a store through Spark, with settings of Spark's own."""
    builder: SparkSession.Builder = SparkSession.builder
    spark = builder.appName("anonproxy report").config(map={"spark.ui.enabled": "false", **options}).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return SparkReports(spark, path, k)


@cache
def translate(sql: str) -> str:
    """Translate a query from DuckDB's dialect to Spark's."""
    return sqlglot.transpile(sql, read="duckdb", write="spark")[0]


def _is_pageview() -> str:
    kinds = ", ".join(f"'{kind}'" for kind in sorted(PAGEVIEW_KINDS))
    statuses = ", ".join(map(str, sorted(PAGEVIEW_STATUSES)))
    return f"method = 'GET' AND status IN ({statuses}) AND kind IN ({kinds})"
