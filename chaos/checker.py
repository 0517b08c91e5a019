"""What a history demands: everything that was acknowledged can be had, byte for byte.

It knows no more than a user of the cluster: what it looks at comes by C-FIND and C-GET.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaos.history import Content, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from chaos.history import Attempt
    from deploy.client.peer import Peer

_ATTEMPTS = 8


class NotRetrieved(Exception):
    """The cluster found an instance, and did not give it; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds of a history, and what does not."""

    acknowledged: int
    """Instances of which at least one attempt was acknowledged."""
    unknown: int
    """Instances of which none was, and that were there all the same."""
    lost: tuple[Attempt, ...]
    """Acknowledged, and not there."""
    differing: tuple[Attempt, ...]
    """Acknowledged, and there with a content that nobody sent."""

    @property
    def held(self) -> bool:
        """Whether all that was acknowledged can be had as it was sent."""
        return not self.lost and not self.differing


def judge(attempts: Iterable[Attempt], retrieved: Mapping[str, Content]) -> Verdict:
    """Compare what was sent with what came back.

    Of several contents that were sent of one instance any may come back: an attempt that was not
    acknowledged may have happened, too, and which version is current is not for the checker to say.

    Parameters
    ----------
    attempts : iterable of Attempt
    retrieved : mapping of str to Content
        By SOP Instance UID.
    """
    sent: dict[str, set[Content]] = {}
    acknowledged: dict[str, Attempt] = {}
    for attempt in attempts:
        uid = attempt.content.sop_instance_uid
        sent.setdefault(uid, set()).add(attempt.content)
        if attempt.outcome is Outcome.ACKNOWLEDGED:
            acknowledged[uid] = attempt
    return Verdict(
        acknowledged=len(acknowledged),
        unknown=len(sent.keys() & retrieved.keys() - acknowledged.keys()),
        lost=tuple(attempt for uid, attempt in acknowledged.items() if uid not in retrieved),
        differing=tuple(
            attempt
            for uid, attempt in acknowledged.items()
            if uid in retrieved and retrieved[uid] not in sent[uid]
        ),
    )


async def retrieve(peer: Peer, folder: Path) -> dict[str, Content]:
    """Find everything, have it sent here (C-GET), and return what came, by SOP Instance UID.

    Parameters
    ----------
    peer : Peer
    folder : Path
        Where it is written to.

    Raises
    ------
    NotRetrieved
        Something was found and did not come.
    UserError
        The peer answers no query.
    """
    from deploy.client.files import recognise
    from deploy.client.find import open_finder
    from deploy.client.get import Getter
    from deploy.client.locate import locate

    async with await open_finder(peer, "study") as association:
        located = [instance async for instance in locate(association, {})]
    got = await Getter(peer, folder, attempts=_ATTEMPTS, on_received=lambda _: None).get(located)
    for instance, reason in got.failed.items():
        raise NotRetrieved(f"{len(got.failed)} did not come, such as {instance.sop_instance_uid}: {reason}")
    contents = (Content.of(recognise(file)) for file in got.files.values())
    return {content.sop_instance_uid: content for content in contents}
