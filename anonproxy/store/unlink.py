"""Rows that belong to no visit: no visit, no step, no seconds.

A row keeps its hour only where at least k visits saw the page in that hour, and has the day otherwise. Robots have no
visits, so their requests are counted.
"""

import pyarrow as pa
import pyarrow.compute as pc

from anonproxy.model.coded import encode, join
from anonproxy.store.tables import SCHEMAS


def unlink(rows: pa.Table, k: int) -> pa.Table:
    """Take from rows what links them, and from those that too few share the hour.

    Shape:   rows as in the hot tier, with their date; columns of `hits`
    Reveals: rows that belong to no visit
    """
    is_person = encode(rows["bot"]).map(lambda bot: not bot)
    time_s = rows["time"].cast(pa.int64())
    crowds = join([encode(time_s), encode(rows["site"]), encode(rows["route"]), is_person])
    members = pa.table({"crowd": crowds.codes, "visit": rows["visit"]}).group_by("crowd", use_threads=False)
    counted = members.aggregate([("visit", "count_distinct"), ([], "count_all")])
    sizes = {
        crowd: visits if crowds.values[crowd][-1] else requests
        for crowd, visits, requests in zip(*(column.to_pylist() for column in counted.columns), strict=True)
    }
    is_shared = pa.array([sizes.get(crowd, 0) >= k for crowd in range(len(crowds.values))], pa.bool_())
    midnight_s = rows["date"].cast(pa.timestamp("s")).cast(pa.int64())
    field = SCHEMAS["hits"].field("time")
    time = pc.if_else(is_shared.take(crowds.codes), time_s, midnight_s).cast(field.type)
    return rows.set_column(rows.column_names.index("time"), field, time).select(SCHEMAS["hits"].names)
