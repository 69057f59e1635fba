"""python-tuf's plain `ngclient` as a test client; one folder is one device's memory."""

from __future__ import annotations

from pathlib import Path

from tuf.ngclient import Updater


class Client:
    """Each call is a new `Updater` over the same folder, as a new process of a device would be."""

    def __init__(self, directory: Path, url: str, root: bytes) -> None:
        self._directory = directory
        self._url = url
        self._root: bytes | None = root
        (directory / "targets").mkdir(parents=True)

    def updater(self) -> Updater:
        """A refreshed updater; raises what python-tuf raises."""
        updater = Updater(
            str(self._directory),
            f"{self._url}/v1/tuf/",
            str(self._directory / "targets"),
            f"{self._url}/v1/tuf/targets/",
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
