"""PostgreSQL's programs on this host, and whom they run as.

They refuse to run as root. Where we are root, they run as the user that Debian's package makes for them.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final

from deploy.errors import UserError
from deploy.parent import Account

ACCOUNT: Final = "postgres"
OLDEST: Final = 14
"""Major version."""

_PACKAGED: Final = Path("/usr/lib/postgresql")
"""Where Debian has a folder for each major version; none of them is in PATH."""
_PROGRAMS: Final = ("initdb", "postgres")


def find_binaries(major: int | None = None) -> Path:
    """Return the folder of PostgreSQL's programs: that of PATH, else the newest that Debian's packages have.

    Parameters
    ----------
    major : int or None
        The version that it must be, as the data of one is nothing to another; None for any that will do.

    Raises
    ------
    UserError
        There is none.
    """
    candidates = [Path(found).resolve().parent] if (found := shutil.which("postgres")) else []
    candidates += sorted(_PACKAGED.glob("*/bin"), key=_major_of, reverse=True)
    for folder in candidates:
        if not all(os.access(folder / program, os.X_OK) for program in _PROGRAMS):
            continue
        version = _version(folder)
        if version == major or (major is None and version >= OLDEST):
            return folder
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL, {OLDEST} or newer,"
    package = f"postgresql-{major}" if major else "postgresql"
    raise UserError(
        f"{wanted} is neither in PATH nor in {_PACKAGED}: install it with `apt-get install {package}`,"
        " or bring it with `make servers`"
    )


def account() -> Account | None:
    """Return whom they run as; None for who we are.

    Raises
    ------
    UserError
        We are root, and there is no user for them.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise UserError(
            f"PostgreSQL does not run as root, and there is no user {ACCOUNT}:"
            " `apt-get install postgresql` makes one"
        ) from None
    groups = tuple(os.getgrouplist(ACCOUNT, entry.pw_gid))
    return Account(ACCOUNT, entry.pw_uid, entry.pw_gid, groups)


def refuse_impassable(folder: Path, account: Account) -> None:
    """Refuse a folder that the account cannot get into, as far as it is there.

    Raises
    ------
    UserError
    """
    for one in (folder, *folder.parents):
        if one.exists() and not _is_passable(one.stat(), account):
            raise UserError(
                f"PostgreSQL runs as user {account.name} here, who cannot get into {one}: choose a folder"
                f" elsewhere, or `chmod o+x {one}`"
            )


def _is_passable(folder: os.stat_result, account: Account) -> bool:
    if folder.st_uid == account.user:
        return bool(folder.st_mode & stat.S_IXUSR)
    if folder.st_gid in account.groups:
        return bool(folder.st_mode & stat.S_IXGRP)
    return bool(folder.st_mode & stat.S_IXOTH)


def _version(folder: Path) -> int:
    said = subprocess.run(  # noqa: S603  a program of the host's packages, or that of PATH
        [folder / "postgres", "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return 0 if found is None else int(found[1])


def _major_of(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdecimal() else 0
