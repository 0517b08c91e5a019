"""Names of persons (PS3.5 6.2.1): the form they are compared in, and what of them matches what.

They are compared without case and accents, by component group: a key of one group is meant in any
representation, one of several in each that it has (PS3.4 C.2.2.2.1, C.2.2.2.4).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Final

_ACCENTS: Final = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]")
"""Marks on letters of Latin, Greek, Cyrillic, Hebrew and Arabic; elsewhere a mark makes another letter."""
_BETWEEN_WORDS: Final = re.compile(r"\W+")
_WIDE: Final = re.compile(
    "[\u2047-\u2049\u207c\u208c\u2260\u2a74-\u2a76\ufe16\ufe56\ufe61\ufe66\ufe68\uff0a\uff1d\uff1f\uff3c\uff3e]"
)
"""Characters whose plain forms would delimit groups and components, or be wild."""
_FUZZY_FROM: Final = 4
"""Length of the shortest word that matches with an error in it."""


def folded(name: str) -> str:
    """Return a name, or a key for names, in the form that names are compared in."""
    if name.isascii() and " " not in name and "=" not in name:
        return name.casefold().rstrip("^")
    if not name.isascii():
        name = _decomposed(_decomposed(name).casefold())
        name = unicodedata.normalize("NFC", _ACCENTS.sub("", name))
    return "=".join(map(_without_padding, name.casefold().split("="))).rstrip("=")


def _without_padding(group: str) -> str:
    """Return a group without spaces around its components, and without those at its end that are empty."""
    return "^".join(component.strip() for component in group.split("^")).rstrip("^")


def _decomposed(name: str) -> str:
    """Return a name by its letters and marks; wide forms of what delimits or is wild stay characters."""
    if _WIDE.search(name) is None:
        return unicodedata.normalize("NFKD", name)
    return "".join(c if _WIDE.match(c) else unicodedata.normalize("NFKD", c) for c in name)


def groups_fit(key: str, name: str, fits: Callable[[str, str], bool]) -> bool:
    """Return whether a key fits a name: any of its component groups, or the same ones that the key has.

    Parameters
    ----------
    key, name : str
        Folded.
    fits : callable
        Whether a group of the key fits one of the name; of wild cards alone it asks nothing.
    """
    groups = name.split("=")
    if "=" not in key:
        return any(fits(key, group) for group in groups if group)
    groups += [""] * 2
    return all(
        bool(group) and fits(of_key, group)
        for of_key, group in zip(key.split("="), groups, strict=False)
        if of_key.strip("*")
    )


def words(name: str) -> tuple[str, ...]:
    """Return the words of a folded name, each once."""
    return tuple(dict.fromkeys(word for word in _BETWEEN_WORDS.split(name) if word))


def sounds_like(asked: tuple[str, ...], name: str) -> bool:
    """Return whether each word that is asked for begins a word of a name, or is one with an error in it.

    That is what fuzzy semantic matching does: the words stand in any order, in any representation; an error
    is a character too many, too few, or another, in a word of at least four.
    """
    held = words(name)
    return all(any(one.startswith(word) or _differ_by_one(word, one) for one in held) for word in asked)


def parts(word: str) -> tuple[str, ...]:
    """Return parts of a word, of which every word that `sounds_like` takes for it has at least one."""
    middle = len(word) // 2
    return (word,) if len(word) < _FUZZY_FROM else (word[:middle], word[middle:])


def _differ_by_one(one: str, other: str) -> bool:
    """Return whether a character put in, left out or replaced makes one word of the other."""
    if len(one) < _FUZZY_FROM or abs(len(one) - len(other)) > 1:
        return False
    shorter, longer = sorted((one, other), key=len)
    same = next((at for at, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
    return shorter[same + (len(shorter) == len(longer)) :] == longer[same + 1 :]
