"""python-tuf's plain `ngclient` as a test client; one folder is one device's memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater


class Client:
    """Each call is a new `Updater` over the same folder, as a new process of a device would be."""

    def __init__(self, directory: Path, url: str, root: bytes, fetcher: FetcherInterface | None = None) -> None:
        self._directory = directory
        self._metadata_url, self._targets_url = f"{url}/v1/tuf/", f"{url}/v1/tuf/targets/"
        self._root: bytes | None = root
        self._fetcher = fetcher
        (directory / "targets").mkdir(parents=True)

    def updater(self) -> Updater:
        """A refreshed updater; raises what python-tuf raises."""
        updater = Updater(
            str(self._directory),
            self._metadata_url,
            str(self._directory / "targets"),
            self._targets_url,
            self._fetcher,
            bootstrap=self._root,
        )
        self._root = None  # from now on the cached root is the trust anchor
        updater.refresh()
        return updater

    def knows(self, path: str) -> bool:
        """Whether the target exists for this client."""
        return self.updater().get_targetinfo(path) is not None

    def download(self, path: str) -> bytes:
        """The verified bytes of a target."""
        updater = self.updater()
        info = updater.get_targetinfo(path)
        if info is None:
            raise LookupError(path)
        return Path(updater.download_target(info)).read_bytes()


class FolderFetcher(FetcherInterface):
    """Reads `file:` URLs, as from a USB stick."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(url.removeprefix("file://"))
        if not path.is_file():
            raise DownloadHTTPError(f"{path} does not exist", 404)
        return iter([path.read_bytes()])


class FolderClient(Client):
    """A client of an exported repository."""

    def __init__(self, directory: Path, repository: Path, root: bytes) -> None:
        super().__init__(directory, "", root, FolderFetcher())
        self._metadata_url = f"file://{repository}/metadata/"
        self._targets_url = f"file://{repository}/targets/"
