"""What a command line says above the settings file, kept so that it can be said again to a child process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from deploy.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.settings import Settings

FILE: Final = "atria.toml"
"""The settings file of a data folder."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """The options that all commands share. None stands for what the settings file, or its default, says."""

    config: Path | None = None
    data: Path | None = None
    host: str | None = None
    dicom_port: int | None = None
    http_port: int | None = None
    ae_title: str | None = None
    workers: int | None = None

    @property
    def file(self) -> Path:
        """The settings file: that which was named, or else the data folder's own, which need not be there."""
        if self.config is not None:
            return self.config.expanduser()
        return self._data_folder / FILE

    def settings(self) -> Settings:
        """Read the settings file, with the command line above it.

        Raises
        ------
        UserError
            The file, or an option, is not what is expected.
        """
        from deploy import own_sites

        settings = self._load()
        if "sites" not in settings.model_fields_set and (kept := own_sites.tables(settings.data_folder)):
            return self._load(sites=kept)
        return settings

    def _load(self, **more: object) -> Settings:
        from cluster.settings import SettingsError, load

        # The data folder that has a settings file of its own is the one that it was found in.
        data = self._data_folder if self.config is None else self.data
        top = _given(data_folder=data, workers=self.workers)
        tables = {
            "dicom": _given(host=self.host, port=self.dicom_port, ae_title=self.ae_title),
            "http": _given(host=self.host, port=self.http_port),
        }
        try:
            return load(
                self._file_to_read(),
                **top,
                **more,
                **{name: table for name, table in tables.items() if table},
            )
        except SettingsError as error:
            raise UserError(f"settings: {error}") from error

    @property
    def _data_folder(self) -> Path:
        from cluster.settings import Settings

        folder: Path = self.data or Settings.model_fields["data_folder"].default
        return folder.expanduser().absolute()

    def _file_to_read(self) -> Path | None:
        try:
            return self.file if self.config is not None or self.file.exists() else None
        except OSError as error:
            raise UserError(f"cannot read {self.file}: {error.strerror}") from error

    def arguments(self) -> list[str]:
        """Return the same as command line arguments."""
        options = {
            "--config": self.config and self.config.expanduser().absolute(),
            "--data": self.data and self.data.expanduser().absolute(),
            "--host": self.host,
            "--dicom-port": self.dicom_port,
            "--http-port": self.http_port,
            "--ae-title": self.ae_title,
        }
        return [f"{name}={value}" for name, value in options.items() if value is not None]


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
