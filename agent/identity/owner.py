"""Files that root writes into the state folder of a service belong to the service's account, not to root."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["hand_over"]


def hand_over(folder: Path) -> bool:
    """When root runs this and the folder is another account's, give all of it to that account; says whether it did."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return False
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(root) / name, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return True
