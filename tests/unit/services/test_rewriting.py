"""A corrected data set of any shape: what else it says stays, byte by byte or as text."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from tests.unit.services.data_sets import (
    SEQUENCE_END,
    SYNTAXES,
    UNDEFINED,
    element,
    item_of,
    read,
    rewritten,
    undefined_item,
)

_VALUES = st.binary(max_size=12).map(lambda value: value.replace(b"\x1b", b"?"))
_TAGS = st.sampled_from(
    [
        0x00080020,
        0x0008103E,
        0x00081030,
        0x00091001,
        0x00100010,
        0x00100020,
        0x00104000,
        0x00200011,
        0x00280010,
    ]
)
_VRS = {
    0x00080020: "DA",
    0x00091001: "OB",
    0x00091010: "SQ",
    0x00100010: "PN",
    0x00104000: "LT",
    0x00200011: "IS",
    0x00280010: "US",
}
_SQ = st.sampled_from([0x00081140, 0x00091010, 0x00400275, 0x52009230])


def _tree(syntax: str) -> st.SearchStrategy[dict[int, bytes]]:
    """Encoded elements by tag, sequences of both kinds of length among them."""
    plain = st.dictionaries(_TAGS, _VALUES, max_size=6).map(
        lambda some: {tag: element(tag, _VRS.get(tag, "LO"), value, syntax) for tag, value in some.items()}
    )

    def nest(inner: st.SearchStrategy[dict[int, bytes]]) -> st.SearchStrategy[dict[int, bytes]]:
        def sequence(tag: int, items: list[dict[int, bytes]], defined: list[bool]) -> bytes:
            contents = [b"".join(item[tag] for tag in sorted(item)) for item in items]
            make = {True: item_of, False: undefined_item}
            joined = b"".join(make[defined[n % len(defined)]](one, syntax) for n, one in enumerate(contents))
            if defined[0]:
                return element(tag, "SQ", joined, syntax)
            head = element(tag, "SQ", b"", syntax, UNDEFINED)
            return head + joined + element(SEQUENCE_END, "", b"", syntax)

        return st.builds(
            lambda flat, tag, items, defined: {**flat, tag: sequence(tag, items, defined)},
            plain,
            _SQ,
            st.lists(inner, max_size=2),
            st.lists(st.booleans(), min_size=1, max_size=3),
        )

    return st.recursive(plain, nest, max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), syntax=st.sampled_from(SYNTAXES), size=st.integers(1, 200), pixels=st.booleans())
def test_whatever_stands_beside_a_correction_stays(
    data: st.DataObject, syntax: str, size: int, pixels: bool
) -> None:
    stored = data.draw(_tree(syntax))
    if pixels:
        stored[0x7FE00010] = element(0x7FE00010, "OW", b"\0\1" * 40, syntax)
    texts = data.draw(
        st.dictionaries(
            _TAGS.filter(lambda tag: _VRS.get(tag, "LO") not in ("OB", "US")),
            st.sampled_from(["", "20240101", "Doe^Jane"]),
            min_size=1,
        )
    )
    made = {tag: element(tag, _VRS.get(tag, "LO"), text.encode(), syntax) for tag, text in texts.items()}
    right = {**stored, **made}
    out = rewritten(b"".join(stored[tag] for tag in sorted(stored)), texts, syntax, size)
    assert out == b"".join(right[tag] for tag in sorted(right))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), syntax=st.sampled_from(SYNTAXES), size=st.integers(1, 200))
def test_a_data_set_put_into_utf_8_says_the_same(data: st.DataObject, syntax: str, size: int) -> None:
    tree = data.draw(_tree(syntax))
    character_set = element(0x00080005, "CS", b"ISO_IR 100", syntax)
    whole = character_set + b"".join(tree[tag] for tag in sorted(tree))
    out = rewritten(whole, {0x00200010: "Я"}, syntax, size)

    def said(elements: Dataset, codec: str) -> list[object]:
        found: list[object] = []
        for tag in sorted(elements.keys()):
            raw: Any = elements.get_item(tag)
            if raw.VR == "SQ" or (raw.VR is None and tag in (0x00081140, 0x00400275, 0x52009230)):
                found.append([int(tag), [said(item, codec) for item in elements[tag].value]])
            elif tag not in (0x00080005, 0x00200010):
                is_text = _VRS.get(int(tag), "LO") in ("LO", "PN", "LT")
                value = raw.value or b""
                found.append([int(tag), value.decode(codec).rstrip(" ") if is_text else value])
        return found

    assert said(read(out, syntax), "utf_8") == said(read(whole, syntax), "latin_1")
