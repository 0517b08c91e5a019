"""The UIDs of the SOP classes that Atria knows by name (PS3.4, PS3.6 annex A); all else is storage."""

from __future__ import annotations

from typing import Final

LONGEST_UID: Final = 64
"""Characters of a UID at most (PS3.5 9.1)."""

VERIFICATION: Final = "1.2.840.10008.1.1"

PATIENT_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"

KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
"""Of a Key Object Selection Document (PS3.3 A.35.4): it flags instances, some of them as rejected."""

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
"""Of a DICOMDIR, which lists files (PS3.3 F): it exists in files only, and no association carries it."""
