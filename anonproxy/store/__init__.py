"""The store: Parquet files that hold anonymised rows, and how they come, change and go.

`write` adds small segments, `seal` merges those of an hour into one file, `settle` turns a day into unlinked rows and
daily totals, `purge` deletes, `read` gives SQL views over all of it. One process writes at a time (`lock`), and within
it flushing, sealing, settling and purging take turns; whoever reads needs no lock.
"""
