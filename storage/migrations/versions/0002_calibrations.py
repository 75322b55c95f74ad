"""What each host gave at best when it was calibrated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

MOMENT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "calibrations",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("measured_at", MOMENT, nullable=False),
        sa.Column("calibration", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_calibrations")),
    )
