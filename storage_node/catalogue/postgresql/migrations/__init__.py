"""How a PostgreSQL catalogue came from one schema to the next: Alembic's migrations, rendered as SQL.

Alembic would need a second, blocking driver to run them itself; what it renders runs over the one there is.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

REVISION: Final = "0003"
"""The migration that the code is written for; a test holds it to be the last one."""


def script(since: str | None, to: str = REVISION) -> str:
    """Return the statements that bring a schema from one revision to a later one, without a transaction.

    Parameters
    ----------
    since : str or None
        Its revision; None for an empty schema.
    to : str

    Raises
    ------
    alembic.util.CommandError
        A revision is not known here: it was written by a newer Atria.
    """
    from alembic import command
    from alembic.config import Config

    rendered = io.StringIO()
    config = Config(output_buffer=rendered)
    config.set_main_option("script_location", str(Path(__file__).parent))
    command.upgrade(config, f"{since or 'base'}:{to}", sql=True)
    return rendered.getvalue()
