"""How much of a kind a visitor may send; beyond the settings, what nobody needs to change."""

import sys
from typing import Final

MIB: Final = 1024 * 1024
ANY_SIZE: Final = sys.maxsize

# nginx refuses a head beyond four buffers of 8 KiB as well (large_client_header_buffers).
MAX_HEAD_BYTES: Final = 32 * 1024

# Requests at once on one HTTP/2 connection; each takes a connection to the site. Browsers open six with HTTP/1.1.
MAX_STREAMS: Final = 32

# What waits in memory for a visitor who doesn't take one HTTP/2 response, before the site is held up.
MAX_WAITING_BYTES: Final = 256 * 1024

# Requests that a visitor may take back on one HTTP/2 connection: a person who leaves a page takes back its pictures;
# a flood of them is an attack (CVE-2023-44487).
MAX_RESETS: Final = 500
