"""The first schema: artifacts, experiments, runs and what hangs on them; full-text search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")

METRICS = ("latency", "latency_p90", "throughput", "peak_memory", "size", "quality")
FILTERED = ("created_at", "artifact_key", "status", "runtime", "techniques", "speedup", *METRICS)
SORTED = ("created_at", "recipe", "status", "runtime", "verdict", *METRICS, "speedup", "speedup_low", "speedup_high")

_FTS5 = """
CREATE VIRTUAL TABLE run_search USING fts5(
    recipe, name, notes, tags, artifact, experiment, tokenize='unicode61', prefix='1 2 3'
)
"""
_TSVECTOR = """
CREATE TABLE run_search (
    rowid bigint PRIMARY KEY,
    recipe text NOT NULL, name text NOT NULL, notes text NOT NULL,
    tags text NOT NULL, artifact text NOT NULL, experiment text NOT NULL,
    document tsvector GENERATED ALWAYS AS (to_tsvector(
        'simple',
        recipe || ' ' || name || ' ' || notes || ' ' || tags || ' ' || artifact || ' ' || experiment
    )) STORED
)
"""


def upgrade() -> None:
    _create_tables()
    if op.get_bind().dialect.name == "sqlite":
        op.execute(_FTS5)
    else:
        op.execute(_TSVECTOR)
        op.execute("CREATE INDEX ix_run_search_document ON run_search USING gin (document)")


def _create_tables() -> None:
    op.create_table(
        "artifacts",
        sa.Column("key", KEY, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("id", name=op.f("uq_artifacts_id")),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("labelled", sa.Boolean(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("file_name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_table(
        "hosts",
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("worker_id", sa.String(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("doing", sa.String(), nullable=False),
        sa.Column("beat_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("host", "worker_id", name=op.f("pk_hosts")),
    )
    op.create_table(
        "intakes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("artifact_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intakes")),
    )
    op.create_index(op.f("ix_intakes_created_at"), "intakes", ["created_at"])
    op.create_table(
        "experiments",
        sa.Column("key", KEY, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("artifact_key", KEY, nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("target", sa.Text(), nullable=True),
        sa.Column("guard_rail", sa.Double(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=True),
        sa.Column("calibration", sa.Text(), nullable=True),
        sa.Column("keep_models", sa.Boolean(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_key"], ["artifacts.key"], name=op.f("fk_experiments_artifact_key")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_experiments")),
        sa.UniqueConstraint("id", name=op.f("uq_experiments_id")),
    )
    op.create_index(op.f("ix_experiments_artifact_key"), "experiments", ["artifact_key"])
    op.create_index(op.f("ix_experiments_created_at_key"), "experiments", ["created_at", "key"])
    op.create_table(
        "runs",
        sa.Column("key", KEY, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("experiment_key", KEY, nullable=False),
        sa.Column("artifact_key", KEY, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("runtime", sa.String(), nullable=False),
        sa.Column("techniques", sa.String(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("latency", sa.Double(), nullable=True),
        sa.Column("latency_p90", sa.Double(), nullable=True),
        sa.Column("throughput", sa.Double(), nullable=True),
        sa.Column("peak_memory", sa.Double(), nullable=True),
        sa.Column("size", sa.Double(), nullable=True),
        sa.Column("quality", sa.Double(), nullable=True),
        sa.Column("speedup", sa.Double(), nullable=True),
        sa.Column("speedup_low", sa.Double(), nullable=True),
        sa.Column("speedup_high", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("acceptable", sa.Boolean(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("lowered_id", sa.String(), nullable=False),
        sa.Column("lowered_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_key"], ["artifacts.key"], name=op.f("fk_runs_artifact_key")),
        sa.ForeignKeyConstraint(
            ["experiment_key"], ["experiments.key"], name=op.f("fk_runs_experiment_key"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_runs_id")),
    )
    op.create_index(op.f("ix_runs_artifact_key_acceptable_speedup"), "runs", ["artifact_key", "acceptable", "speedup"])
    op.create_index(
        op.f("ix_runs_experiment_key_status_acceptable_speedup"),
        "runs",
        ["experiment_key", "status", "acceptable", "speedup"],
    )
    op.create_index(op.f("ix_runs_lowered_id"), "runs", ["lowered_id"])
    op.create_table(
        "shares",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("experiment_key", KEY, nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["experiment_key"], ["experiments.key"], name=op.f("fk_shares_experiment_key"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shares")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_shares_token_sha256")),
    )
    op.create_index(op.f("ix_shares_experiment_key"), "shares", ["experiment_key"])
    op.create_table(
        "logs",
        sa.Column("key", KEY, nullable=False),
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.key"], name=op.f("fk_logs_run_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_logs")),
    )
    op.create_index(op.f("ix_logs_run_key"), "logs", ["run_key"])
    op.create_table(
        "measurements",
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("median", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("provenance", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.key"], name=op.f("fk_measurements_run_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "name", name=op.f("pk_measurements")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_measurements_name_median_run_key"), "measurements", ["name", "median", "run_key"])
    op.create_table(
        "rounds",
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("samples", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.key"], name=op.f("fk_rounds_run_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "block", "index", name=op.f("pk_rounds")),
    )
    op.create_table(
        "run_details",
        sa.Column("run_key", KEY, autoincrement=False, nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("problems", sa.Text(), nullable=False),
        sa.Column("remarks", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_key"], ["runs.key"], name=op.f("fk_run_details_run_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", name=op.f("pk_run_details")),
    )
    op.create_table(
        "run_tags",
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("tag", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.key"], name=op.f("fk_run_tags_run_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "tag", name=op.f("pk_run_tags")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_run_tags_tag_run_key"), "run_tags", ["tag", "run_key"])
    op.create_table(
        "stages",
        sa.Column("run_key", KEY, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("technique", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("remarks", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_key"], ["runs.key"], name=op.f("fk_stages_run_key"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_key", "position", name=op.f("pk_stages")),
    )
    for name in SORTED:
        payload = [column for column in FILTERED if column != name]
        op.create_index(f"ix_runs_by_{name}", "runs", [name, "key", *payload])
