"""Changing the rules of nftables, all lines of a script at once or none."""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

import structlog

from balancer.address.faults import AddressFault

log = structlog.get_logger()

_TIMEOUT_S: Final = 5.0


def run(script: str) -> None:
    """Let `nft` carry a script out, as one transaction.

    Raises
    ------
    AddressFault
        There is no `nft`, it may not, or the kernel cannot.
    """
    program = installed()
    if program is None:
        raise AddressFault("the program nft is not there: install nftables")
    try:
        done = subprocess.run(  # noqa: S603  a program of the host's packages
            [program, "-f", "-"],
            input=script,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AddressFault(
            f"nft did not end within {_TIMEOUT_S:.0f} s: look at the load of this host"
        ) from error
    except OSError as error:
        raise AddressFault(f"nft could not be started: {error}") from error
    if done.returncode:
        raise AddressFault(_said(done.stderr))


def clear(table: str) -> None:
    """Remove what a killed process left in a table. Where rules cannot be changed, there are none."""
    if installed() is None:
        return
    try:
        run(removal(table))
    except AddressFault as error:
        log.warning("balancer.rules_not_removed", table=table, error=str(error))


def installed() -> str | None:
    """Return where `nft` is, or None."""
    return shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin")


def removal(table: str) -> str:
    """Return the script that removes a table, given with its family, whether it is there or not."""
    return f"add table {table}\ndelete table {table}\n"


def _said(stderr: str) -> str:
    if "Operation not permitted" in stderr:
        return "nft may not change the host's rules: give this process CAP_NET_ADMIN"
    first = stderr.strip().partition("\n")[0]
    return f"nft refused the rules: {first}: the kernel must know nftables of the families netdev and arp"
