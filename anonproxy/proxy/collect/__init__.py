"""`anonproxy collect`: another server serves the pages, and its log lines become the same anonymised rows.

A receiver takes lines and does nothing else; the writer makes rows of them. Lines exist in memory only.
"""
