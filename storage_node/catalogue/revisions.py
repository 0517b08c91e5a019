"""Which schemas the code can work with: its own, and newer ones that only add to it (`site.usable_from`).

Who opens a catalogue never changes its schema.

A migration of millions of rows takes longer than anybody who opens a catalogue waits, and one worker of a new
release must not take the catalogues from those of the old one: so it is a step of its own, `atria catalogue
upgrade`, which `atria up` takes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage_node.catalogue.protocol import CatalogueUnavailable


class OlderSchema(CatalogueUnavailable):
    """The catalogue was last upgraded by an older Atria."""


class NewerSchema(CatalogueUnavailable):
    """The catalogue was upgraded by a newer Atria."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade did."""

    before: str
    """Revision of the schema that was there."""
    now: str


def check(site: str, where: str, found: str, known: str, usable_from: str = "") -> None:
    """Check that a catalogue has a schema that the code can work with.

    Parameters
    ----------
    site : str
    where : str
        The file, or the database.
    found, known : str
        Revisions: the catalogue's, the code's.
    usable_from : str
        The oldest revision whose code can work with a newer one; empty where only its own can.

    Raises
    ------
    OlderSchema, NewerSchema
    """
    check_not_newer(site, where, usable_from if found > known and usable_from else found, known)
    if found < known:
        raise OlderSchema(
            site,
            f"{where} has schema {found or 'none'}, and this Atria needs {known}:"
            f" `atria catalogue upgrade {site}`",
        )


def check_not_newer(site: str, where: str, found: str, known: str) -> None:
    """Check that a catalogue has a schema that the code can be brought up from.

    Raises
    ------
    NewerSchema
    """
    if found > known:
        raise NewerSchema(site, f"{where} has schema {found}, and this Atria knows up to {known}")
