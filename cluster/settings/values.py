"""What settings are made of: values with a unit, and tables that know no other keys than their own."""

from __future__ import annotations

import contextlib
import re
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from cluster.dicom.character_sets import repertoire


def _ae_title(value: str) -> str:
    title = value.strip(" ")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", title):
        raise ValueError(f"expected 1 to 16 ASCII characters without backslash, found {value!r}")
    return title


AeTitle = Annotated[str, AfterValidator(_ae_title)]
"""An Application Entity title: 1 to 16 characters of ISO 646 without backslash (PS3.5 6.2, VR AE)."""
_CHARACTER_SETS = re.compile(
    r"ISO_IR [0-9]+|GB18030|GBK|ISO 2022 IR [0-9]+|(ISO 2022 IR [0-9]+)?(\\ISO 2022 IR [0-9]+)+"
)


def _character_set(value: str) -> str:
    if not _CHARACTER_SETS.fullmatch(value) or not repertoire(value.encode("ascii")).is_known:
        raise ValueError(
            "expected a Defined Term of Specific Character Set, as ISO_IR 100 or ISO_IR 192, or several"
            f" ISO 2022 IR … joined by a backslash, of which the first may be empty, found {value!r}"
        )
    return value


def _host(value: str) -> str:
    if ":" in value:
        with contextlib.suppress(ValueError):
            ip_address(value)
            return value
    elif re.fullmatch(r"[^\s/@\[\]]+", value):
        return value
    raise ValueError(f"expected a name or an IP address, without brackets and port, found {value!r}")


Host = Annotated[str, AfterValidator(_host)]
"""Where another host is: its name, or its IP address as it is without a port."""
CharacterSet = Annotated[str, AfterValidator(_character_set)]
"""A value of Specific Character Set (PS3.3 C.12.1.1.2)."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]

MIB = 1024 * 1024


class SettingsError(Exception):
    """Settings that cannot be used; the message is one line for the operator."""


class Table(BaseModel):
    """A table of the file. A key that it does not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def worded(error: ValidationError) -> str:
    """Return the first mistake in one line: the key, and what was expected there."""
    details = error.errors()[0]
    where = ".".join(str(part) for part in details["loc"])
    if details["type"] == "extra_forbidden":
        return f"{where}: there is no such setting"
    said = details["msg"].removeprefix("Value error, ")
    if details["type"] == "missing":
        said = "is missing"
    elif details["type"] == "string_pattern_mismatch":
        said = f"expected text that matches {details['ctx']['pattern']}, found {details['input']!r}"
    elif said.startswith("Input should be "):
        said = f"expected {said.removeprefix('Input should be ')}, found {details['input']!r}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where}: {said}{more}" if where else f"{said}{more}"
