"""An S3-compatible object store, as the few things that publishing and reading need of it.

An object appears whole or not at all, there is no rename, and whoever lists sees what was written before. Who may
write is told by the credentials that the AWS tools use too: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the
environment, a profile, or the machine's role. They never stand in an address.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from pyarrow.fs import AwsStandardS3RetryStrategy, FileSelector, FileSystem, FileType, S3FileSystem

from anonproxy.model.errors import StoreError

SCHEME: Final = "s3"
OPTIONS: Final = frozenset({"endpoint_override", "region", "scheme"})

# Who publishes comes again in a few minutes, and who stops the proxy waits for it: better give up soon.
CONNECT_TIMEOUT_S: Final = 5
REQUEST_TIMEOUT_S: Final = 20
ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class Listing:
    """What is there: names of objects, and of folders without any, which some clients leave behind."""

    files: frozenset[str]
    empty: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects below one prefix of a bucket. Names are relative to it."""

    filesystem: FileSystem
    prefix: str

    def read(self, name: str) -> bytes:
        """Return an object.

        Raises: FileNotFoundError when there is none, OSError
        """
        with self.filesystem.open_input_stream(self.locate(name)) as stream:
            data: bytes = stream.read()
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put an object, in place of one of the same name.

        Raises: OSError, and then the object may be there or not
        """
        with self.filesystem.open_output_stream(self.locate(name)) as stream:
            stream.write(data)

    def delete(self, name: str) -> None:
        """Delete an object; it may be gone already.

        Raises: OSError
        """
        try:
            self.filesystem.delete_file(self.locate(name))
        except FileNotFoundError:
            return

    def delete_folder(self, name: str) -> None:
        """Delete the mark of a folder in which nothing is left.

        Raises: OSError
        """
        try:
            self.filesystem.delete_dir(self.locate(name))
        except FileNotFoundError:
            return

    def list(self) -> Listing:
        """List everything.

        Raises: OSError
        """
        found = self.filesystem.get_file_info(FileSelector(self.prefix, recursive=True, allow_not_found=True))
        names = {info.path[len(self.prefix) + 1 :]: info.type for info in found}
        files = frozenset(name for name, type_ in names.items() if type_ == FileType.File)
        used = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
        return Listing(files, tuple(sorted(names.keys() - files - used, key=len, reverse=True)))

    def locate(self, name: str) -> str:
        """Return the path of an object in the file system."""
        return f"{self.prefix}/{name}"


def is_address(path: object) -> bool:
    """Tell whether a store's path names an object store."""
    return str(path).startswith(f"{SCHEME}://")


def open_objects(address: str) -> Objects:
    """Open `s3://BUCKET/PREFIX`, with `?region=`, or `?endpoint_override=HOST:PORT&scheme=` for another than Amazon's.

    Raises: StoreError when it is no such address; nothing is asked of the service yet
    """
    parts = urlsplit(address)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = f"{parts.netloc}{parts.path}".rstrip("/")
    if "@" in parts.netloc:
        raise StoreError("store.path: credentials don't belong into an address. Put them into the environment")
    if parts.scheme != SCHEME or not parts.netloc or parts.fragment or "//" in prefix or not options.keys() <= OPTIONS:
        raise StoreError(
            "store.path: not the address of an object store. Write s3://BUCKET/PREFIX, and behind it "
            "?region=NAME or ?endpoint_override=HOST:PORT&scheme=http if need be"
        )
    return Objects(
        S3FileSystem(
            **options,
            connect_timeout=CONNECT_TIMEOUT_S,
            request_timeout=REQUEST_TIMEOUT_S,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
            allow_delayed_open=True,  # one request for a small object: nothing half done stays with the service
        ),
        prefix,
    )
