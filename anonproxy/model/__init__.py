"""Words that every room shares: columns, vocabularies, settings, hits, errors."""
