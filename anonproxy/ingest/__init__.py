"""Raw requests in, anonymised rows on disk: the only place where the rooms meet."""
