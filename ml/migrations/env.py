"""Alembic's environment: runs on the connection that ``ml.store.upgrade`` hands over, never on one of its own."""

from alembic import context

from ml.store import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
