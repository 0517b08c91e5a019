"""A stored data set as people have corrected it, read while it is sent (design, rule 5)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from cluster.dicom.transfer_syntaxes import DEFLATED_EXPLICIT_VR_LE
from storage_node.catalogue.corrections import by_tag
from storage_node.services.rewriting import NotCorrectable, Rewriter, dictionary_vr

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from cluster.nouns import Buffer
    from storage_node.catalogue.corrections import Details

_HEADER_LIMIT_BYTES: Final = 16 * 1024 * 1024
"""How much is held until all corrections are made, so that one that cannot be made fails before anything of
the copy is sent."""
_INFLATED_BYTES: Final = 1024 * 1024
_FIRST_PIXELS: Final = 0x7FE00000
_CORRECTED_VRS: Final = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM")
)


async def corrected(
    blocks: AsyncGenerator[Buffer], transfer_syntax_uid: str, details: Details
) -> AsyncGenerator[Buffer]:
    """Yield the corrected data set, piece by piece; the first piece has all of its corrections as a rule.

    Parameters
    ----------
    blocks : asynchronous generator of bytes-like
        What is stored, without File Meta Information. It is closed in the end.
    transfer_syntax_uid : str
        What that is encoded in, and what is yielded, too.
    details : Details
        What was corrected.

    Raises
    ------
    NotCorrectable
        The structure cannot be followed. After the first piece only where the corrections take more than
        `_HEADER_LIMIT_BYTES` to be made.
    """
    rewriter = Rewriter(transfer_syntax_uid, texts_of(details))
    codec = _Deflated() if transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LE else None
    held: list[Buffer] = []
    held_bytes = 0
    async with aclosing(blocks):
        async for block in blocks:
            for piece in codec.inflate(block) if codec else (block,):
                out = rewriter.feed(piece)
                held.append(codec.deflate(out) if codec else out)
                held_bytes += memoryview(out).nbytes
                if rewriter.is_through or held_bytes > _HEADER_LIMIT_BYTES:
                    for one in held:
                        yield one
                    held.clear()
    out = rewriter.close()
    held.append(codec.end(out) if codec else out)
    for one in held:
        yield one


class _Deflated:
    """What a deflated data set is inflated and deflated again by (PS3.5 A.5)."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._length_bytes = 0

    def inflate(self, data: Buffer) -> Iterator[bytes]:
        """Yield what the next bytes stand for, in pieces of which none is large."""
        try:
            while piece := self._inflater.decompress(data, _INFLATED_BYTES):
                data = self._inflater.unconsumed_tail
                yield piece
        except zlib.error as error:
            raise NotCorrectable(f"what is deflated is damaged: {error}") from error

    def deflate(self, data: Buffer) -> bytes:
        """Return bytes that stand for the next of what goes out; they may be none yet."""
        out = self._deflater.compress(data)
        self._length_bytes += len(out)
        return out

    def end(self, data: Buffer) -> bytes:
        """Return bytes for the last of it, of an even length in all."""
        last, rest = self.deflate(data), self._deflater.flush()
        return last + rest + b"\0" * ((self._length_bytes + len(rest)) % 2)


def texts_of(details: Details) -> Mapping[int, str]:
    """Return what was corrected and can be put into a data set, by tags."""
    tags = by_tag(details)
    return {
        tag: text
        for tag, text in tags.items()
        if tag < _FIRST_PIXELS and dictionary_vr(tag) in _CORRECTED_VRS
    }
