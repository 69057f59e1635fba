"""The reference of a version comes out of its bundle, held against the manifest; damage is not believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import insert

from hub.blobs.files import FileBlobs
from hub.monitoring.references import References
from hub.store.database import Database
from hub.store.schema import blobs, models, versions
from shared import canonical
from shared.drift.build import ReferenceData
from tests.drift.kit import CONTRACT
from tests.ingest.test_ingest_service import FixedClock
from tests.models import digits_bundle, load_digits


def test_a_reference_is_read_once_and_a_damaged_bundle_is_not_watched(database_url: str, tmp_path: Path) -> None:
    data, path = load_digits(), tmp_path / "digits.bundle"
    built = digits_bundle(path, reference=ReferenceData(data.test_x, data.test_y), contract=CONTRACT)
    store, database = FileBlobs(tmp_path / "blobs"), Database(database_url)
    stored = store.put_bytes(path.read_bytes())
    who: dict[str, Any] = {"created_s": 1.0, "created_by": "test"}
    row = {"status": "approved", "bundle_sha256": stored.sha256, "bundle_bytes": built.bytes, "card": ""}
    with database.write() as connection:
        connection.execute(insert(models).values(model="digits", description="", gate={}, bake_s=0, **who))
        connection.execute(insert(blobs).values(sha256=stored.sha256, bytes=1, kind="bundle", created_s=1.0))
        manifest = canonical.dumps(built.manifest).decode()
        connection.execute(insert(versions).values(model="digits", version=1, manifest=manifest, **row, **who))
    references = References(store, FixedClock())
    with database.read() as connection:
        found = references.get(connection, [("digits", 1), ("digits", 2)])
        assert set(found) == {("digits", 1)}
        watched = found["digits", 1]
        assert watched.reference is not None
        assert watched.calibration is not None
        assert watched.sha256 in {entry.sha256 for entry in built.manifest.files}
        file = store.local_path(stored.sha256)
        file.chmod(0o600)
        file.write_bytes(bytes(built.bytes))
        assert references.get(connection, [("digits", 1)])["digits", 1] is watched
        assert References(store, FixedClock()).get(connection, [("digits", 1)]) == {}
    database.close()
