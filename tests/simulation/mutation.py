"""Patches of the shipped code that break it: the simulation has to notice each of them.

A mutation is a file in `mutations/`. It is applied while the module is imported, in a process of its own, and
never touches the file that is shipped.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

FOLDER: Final = Path(__file__).parent / "mutations"


class Stale(Exception):
    """The code that a mutation changes is not there any more, or not once: the mutation has to follow it."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One way in which the shipped code could be wrong."""

    name: str
    breaks: str
    """What must hold, and does not with it."""
    module: str
    """Name of the module that is changed."""
    old: str
    """Stands in its source exactly once."""
    new: str
    caught_by: int
    """A seed that caught it, by the shipped code of that time: it is tried first."""

    def apply(self, source: str) -> str:
        """Return the changed source.

        Raises
        ------
        Stale
        """
        if source.count(self.old) != 1:
            raise Stale(
                f"mutation {self.name} is stale: {self.module} has its text {source.count(self.old)} times"
            )
        return source.replace(self.old, self.new)

    def install(self) -> None:
        """Have the module, which must not have been imported yet, imported as it is changed.

        Raises
        ------
        Stale
        """
        assert self.module not in sys.modules
        spec = importlib.util.find_spec(self.module)
        assert spec is not None
        assert spec.origin is not None
        self.apply(Path(spec.origin).read_text("utf-8"))
        sys.meta_path.insert(0, _Finder(self))


def names() -> list[str]:
    """Return the names of all mutations."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(name: str) -> Mutation:
    """Read a mutation."""
    return Mutation(name=name, **tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8")))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._mutation.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        return importlib.util.spec_from_loader(fullname, _Loader(self._mutation, fullname, spec.origin))


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, mutation: Mutation, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> CodeType:
        """Compile the changed source, past the cache of what was compiled before."""
        source = self._mutation.apply(Path(self.path).read_text("utf-8"))
        return compile(source, self.path, "exec", dont_inherit=True)
