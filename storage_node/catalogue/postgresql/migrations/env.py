"""Alembic's environment: renders migrations for `script`."""

from __future__ import annotations

from alembic import context

context.configure(dialect_name="postgresql", transactional_ddl=False)
with context.begin_transaction():
    context.run_migrations()
