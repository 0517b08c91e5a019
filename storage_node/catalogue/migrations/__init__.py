"""How a catalogue came from one schema to the next: Alembic's migrations, run without an ini file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from storage_node.catalogue.schema import REVISION

if TYPE_CHECKING:
    from sqlalchemy import Connection


def upgrade(connection: Connection, revision: str = REVISION) -> None:
    """Bring a database to the schema of the code, or to an older one, in the caller's transaction.

    Raises
    ------
    alembic.util.CommandError
        The database has a revision that is not known here: it was written by a newer Atria.
    """
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent))
    command.upgrade(config, revision)
