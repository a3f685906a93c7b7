"""The reverse proxy: mitmproxy lives only here. Workers serve pages; one writer holds the keys and the store."""
