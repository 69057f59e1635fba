"""Damaged windows by the hundred thousand: `python -m tests.ingest.soak_windows [MESSAGES]`.

Nothing may crash, what was counted must add up, and every message that was not counted must be counted as malformed or
be a repetition. Prints JSON.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile

from sqlalchemy import func, select

from hub.ingest.service import IngestService
from hub.ingest.windows import WindowBook
from hub.monitoring.sums import split
from hub.store.database import Database
from hub.store.migrate import migrate
from hub.store.schema import device_events, device_status
from tests.ingest.test_ingest_service import FixedClock
from tests.ingest.test_windows import NAMES, mutated, sums, vector
from tests.monitoring.kit import WATCHED, Kept, register


def main() -> int:
    """Run it on SQLite in a temporary folder."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/hub.db")
        migrate(database)
        register(database, NAMES)
        service = IngestService(database, FixedClock(), WindowBook(Kept(), 3600))
        good = mutated(service, random.Random(7), messages, each=500)
        with database.read() as connection:
            bad = connection.scalar(select(func.sum(device_status.c.malformed))) or 0
            told = connection.scalar(select(func.count()).select_from(device_events)) or 0
        found = sums(database)
        adds_up = bool((split(vector(database), WATCHED.shape).cells[:4].sum(axis=1) == found["rows"]).all())
        accepted = service.totals.accepted
        database.close()
    kept = adds_up and bad == told and accepted == messages + good and found["windows"] >= good
    figures = {"messages": messages, "refused": bad, "events": told, "counted": found["windows"], "adds_up": adds_up}
    print(json.dumps({**figures, "kept": kept}))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
