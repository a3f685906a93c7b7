"""Raw requests in, hits or drops out: pure functions, no clock, no disk, no network, no randomness, no log."""
