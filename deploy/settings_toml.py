"""Changes of a settings file as text: comments, order and everything that is not changed stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, TypeAlias

import tomlkit
from tomlkit.items import AoT, Array, Null, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tomlkit.items import InlineTable, Item, Key

    from cluster.settings.shared import Document

Entry: TypeAlias = Mapping[str, object]


def edited(text: str, before: Document, after: Document) -> str:
    """Return a settings file in which `after` stands instead of `before`.

    Some files can be written so that this does not succeed: who calls it reads the result again and compares.

    Parameters
    ----------
    text : str
        TOML.
    before, after : Document
        What it says of the shared settings, and what it is to say of them.
    """
    file = tomlkit.parse(text.rstrip() + "\n\n" if text else "")
    _edit(file, before, after)
    return tomlkit.dumps(file).rstrip() + "\n"


def _edit(table: Any, before: Document, after: Document) -> None:
    """Change a table of the file. tomlkit has a class for each kind of table, and types for none."""
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        if now == was:
            continue
        if isinstance(was, Mapping) or isinstance(now, Mapping):
            if key not in table:
                table[key] = tomlkit.table()
            _edit(table[key], _mapping(was), _mapping(now))
            if not table[key].as_string().strip():
                del table[key]
        elif _is_entries(was) or _is_entries(now):
            _edit_entries(table, key, _entries(was), _entries(now))
        elif now is None:
            del table[key]
        elif key in table:
            table[key] = now
        else:
            tail = _cut_tail(table)
            table[key] = now
            _put_tail(table, tail)


def _edit_entries(table: Any, key: str, before: Sequence[Entry], after: Sequence[Entry]) -> None:
    """Change a list of tables: those that stay keep their place and their comments."""
    if not after:
        del table[key]
        return
    if key not in table:
        table[key] = tomlkit.aot()
    entries = table[key]
    matcher = SequenceMatcher(None, [*map(repr, before)], [*map(repr, after)], autojunk=False)
    for what, first, last, new_first, new_last in reversed(matcher.get_opcodes()):
        if what == "equal":
            continue
        if last - first == new_last - new_first:
            for number, entry in enumerate(after[new_first:new_last], start=first):
                _edit(entries[number], before[number], entry)
            continue
        for number in reversed(range(first, last)):
            _remove_entry(entries, number)
        for entry in reversed(after[new_first:new_last]):
            _insert_entry(entries, first, entry)


def _insert_entry(entries: AoT | Array, number: int, entry: Entry) -> None:
    if isinstance(entries, Array):
        entries.insert(number, _filled(tomlkit.inline_table(), entry))
        return
    table = tomlkit.table()
    _filled(table, entry)
    if number > 0:  # what comes behind the last entry is about what comes next
        former = entries[number - 1]
        tail = _cut_tail(former)
        former.add(tomlkit.nl())
        _put_tail(table, tail)
    elif len(entries):
        table.add(tomlkit.nl())
    entries.insert(number, table)


def _remove_entry(entries: AoT | Array, number: int) -> None:
    """Remove one of the tables, but no comment that may be about the next."""
    if isinstance(entries, AoT) and len(entries) > 1:
        comments = [one for one in _cut_tail(entries[number]) if one.as_string().strip()]
        _put_tail(entries[number - 1 if number else 1], [*comments, tomlkit.nl()] if comments else [])
    del entries[number]


def _filled(table: Table | InlineTable, entry: Entry) -> Table | InlineTable:
    for key, value in entry.items():
        if isinstance(value, Mapping):
            table[key] = _filled(tomlkit.inline_table(), value)
        else:
            table[key] = value
    return table


def _cut_tail(table: Any) -> list[Item]:
    """Take away the comments and empty lines behind the last key of a table, and return them."""
    if not isinstance(table, Table):
        return []
    body: list[tuple[Key | None, Item]] = table.value.body
    start = len(body)
    while start and body[start - 1][0] is None:
        start -= 1
    tail = [item for _, item in body[start:] if not isinstance(item, Null)]  # which stands for a removed key
    del body[start:]
    return tail


def _put_tail(table: Any, tail: Sequence[Item]) -> None:
    for item in tail:
        table.add(item)


def _mapping(value: object) -> Document:
    return value if isinstance(value, Mapping) else {}


def _is_entries(value: object) -> bool:
    return isinstance(value, list)


def _entries(value: object) -> Sequence[Entry]:
    return value if isinstance(value, list) else []
