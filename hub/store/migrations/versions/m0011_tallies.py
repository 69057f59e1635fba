"""How many devices of a rollout are in each state: kept up by the database itself, so that no tick counts them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, count what is there, and have the database keep it."""
    op.create_table(
        "rollout_tallies",
        sa.Column("rollout_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("group_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_no"], ["rollouts.rollout_no"], name=op.f("fk_rollout_tallies_rollout_no")),
        sa.PrimaryKeyConstraint("rollout_no", "group_no", "state", name=op.f("pk_rollout_tallies")),
    )
    op.execute(
        "INSERT INTO rollout_tallies (rollout_no, group_no, state, n)"
        " SELECT rollout_no, group_no, state, count(*) FROM rollout_devices GROUP BY rollout_no, group_no, state"
    )
    if op.get_bind().dialect.name == "postgresql":
        _keep_by_statement()
    else:
        _keep_by_row()


def _keep_by_row() -> None:
    """SQLite knows triggers for rows only."""
    one_more = (
        "INSERT INTO rollout_tallies (rollout_no, group_no, state, n)"
        " VALUES (NEW.rollout_no, NEW.group_no, NEW.state, 1)"
        " ON CONFLICT (rollout_no, group_no, state) DO UPDATE SET n = n + 1;"
    )
    op.execute(f"CREATE TRIGGER rollout_devices_come AFTER INSERT ON rollout_devices BEGIN {one_more} END")
    op.execute(
        "CREATE TRIGGER rollout_devices_move AFTER UPDATE OF group_no, state ON rollout_devices"
        " WHEN OLD.state <> NEW.state OR OLD.group_no <> NEW.group_no BEGIN"
        " UPDATE rollout_tallies SET n = n - 1"
        " WHERE rollout_no = OLD.rollout_no AND group_no = OLD.group_no AND state = OLD.state;"
        f" {one_more} END"
    )


def _keep_by_statement() -> None:
    """Once a statement: a row that is updated a thousand times in one transaction is slow in PostgreSQL."""
    write = (
        "INSERT INTO rollout_tallies AS t (rollout_no, group_no, state, n)"
        " SELECT rollout_no, group_no, state, sum(d) FROM ({}) AS moved"
        " GROUP BY rollout_no, group_no, state HAVING sum(d) <> 0 ORDER BY rollout_no, group_no, state"
        " ON CONFLICT (rollout_no, group_no, state) DO UPDATE SET n = t.n + excluded.n;"
    )
    came = "SELECT rollout_no, group_no, state, 1 AS d FROM come"
    left = "SELECT rollout_no, group_no, state, -1 AS d FROM gone"
    for name, rows in (("come", came), ("move", f"{came} UNION ALL {left}")):
        op.execute(
            f"CREATE FUNCTION rollout_devices_{name}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {write.format(rows)} RETURN NULL; END $$"
        )
    op.execute(
        "CREATE TRIGGER rollout_devices_come AFTER INSERT ON rollout_devices"
        " REFERENCING NEW TABLE AS come FOR EACH STATEMENT EXECUTE FUNCTION rollout_devices_come()"
    )
    op.execute(
        "CREATE TRIGGER rollout_devices_move AFTER UPDATE ON rollout_devices"
        " REFERENCING NEW TABLE AS come OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION rollout_devices_move()"
    )
