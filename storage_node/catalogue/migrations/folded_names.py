"""Names in the form that they are compared in now, of studies that were stored in the form of before.

Plain names of ASCII letters have one form in both: the others are read again from the headers.
"""

from __future__ import annotations

from typing import Final

from storage_node.catalogue.attributes import described

COLUMNS: Final = ("patient_name", "referring_physician_name")
PAGE: Final = 1000
"""Studies that are looked at in one step."""
SELECT: Final = (
    "SELECT studies.study_instance_uid, patient_name, referring_physician_name, header"
    " FROM studies JOIN versions ON versions.id = representative"
)


def changed(study: str, patient: str | None, physician: str | None, header: bytes) -> tuple[str | None, ...]:
    """Return a study's names and its UID, for an update; nothing where they are what they were."""
    values = described(header)
    names = tuple(values[column] for column in COLUMNS)
    return () if names == (patient, physician) else (*names, study)
