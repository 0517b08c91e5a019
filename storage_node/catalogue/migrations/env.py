"""Alembic's environment: runs migrations over the connection that `upgrade` hands it."""

from __future__ import annotations

from alembic import context

from storage_node.catalogue.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
