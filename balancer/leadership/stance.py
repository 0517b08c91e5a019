"""Where one balancer stands: what it may do, and what it answers to others. No I/O and no clock of its own.

A balancer holds the service address either *by lease*, until its lease in the store may have run out, or *by
promises*, until `lease_s` after the moment before it asked **all** others of the list of balancers, if all of
them promised not to take it for `lease_s` from when they were asked. At no moment do two hold it:

1.  *Two by lease.* The store lets one lead at a time, and `Lease.valid_until` ends here before it ends there.
    In a hand-over the giver renews nothing from before it asks the store (`YIELDING`), and the taker begins
    when the giver says that it has let go, or a whole lease after it saw the term in its own name.
2.  *One by promises, another by lease.* Who leads, or asks the store to (`CAMPAIGNING`), promises nothing;
    who has promised asks for nothing. So if the other promised, it won its term after its promise was over:
    after the right that rests on it, for a promise is counted from later than the right; or the holder
    itself gave it the term: see 1. If it did not promise, it is not in the holder's list: see 4.
3.  *Two by promises.* Each is in the list of the other (4), so each promised to the other. Who holds promises
    nothing, and who promises drops what it is asking for itself: so whichever promised later had let go, and
    begins to ask anew when the right that rests on its promise is over.
4.  *Lists.* A name is added only by a leader, during its term, over the revision that it knows, after it
    wrote down (`pending`) that it will. Who wins a term reads the list before it takes the address, and does
    not take it if it is not named; who is given a term is given the list. Let a holder by promises know the
    list of revision k, and let a later list name somebody new. The first leader to add a name after k is
    named in the list of k, for until then names can only have gone. So the holder has asked it; and it
    refuses who knows less than it does (an older revision, or not a pending name). If it has lost its disk
    it knows no list, and promises nothing until it has read the store's.
5.  *A process that begins anew* has forgotten what it promised. It promises nothing and asks for nothing
    until the longest promise is over (`STARTING`), unless it knew of nobody then to promise it to. How long
    that may be it has written down before the first, for settings may have changed (`kept_s`).
6.  *Who renews* is promised to by those that have just begun, too, or have promised to another: when its
    answers are there it has held throughout (else they do not count), and by 3 nobody else's asking can have
    ended well meanwhile, for it needs the promise of this holder.
7.  *The kernel* is told with every renewal when the address ends, so that a process that is stopped, killed
    or hangs has no more part in it. Who wakes late finds its right over before it does anything else.

All this wants clocks that run equally fast; what they differ in one lease is less than the part of a second
by which the kernel drops the address early. It does not hold for a virtual machine that is paused together
with its clock, and goes on: no lease does.

Somebody gets it: with the store there, whoever is listed campaigns when the term ends, and waits for its own
promise at most, which is a lease. Without the store, all that are listed must be there; of those who ask at
the same time the lower name goes first, and the others ask again after a pause.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from typing import Final

from balancer.leadership.known import Known
from balancer.leadership.promises import Promise, Reply, Round, Wish
from cluster.coordination.registry import Address


class Role(enum.StrEnum):
    """What a balancer is doing about the address."""

    STARTING = "starting"
    """It may have promised something before it began."""
    STANDBY = "standby"
    CAMPAIGNING = "campaigning"
    """It has asked the store, and may lead without knowing."""
    ASKING = "asking"
    """It asks all others for promises, and holds nothing."""
    PREPARED = "prepared"
    """It is about to be given the term."""
    LEADING = "leading"
    """It holds by lease."""
    LEADING_BY_PROMISES = "leading_by_promises"
    YIELDING = "yielding"
    """It holds, is giving its term away, and renews nothing."""


MOVES: Final[Mapping[Role, Collection[Role]]] = {
    Role.STARTING: (Role.STANDBY,),
    Role.STANDBY: (Role.CAMPAIGNING, Role.ASKING, Role.PREPARED),
    Role.CAMPAIGNING: (Role.LEADING, Role.STANDBY),
    Role.ASKING: (Role.LEADING_BY_PROMISES, Role.STANDBY),
    Role.PREPARED: (Role.LEADING, Role.STANDBY),
    Role.LEADING: (Role.LEADING_BY_PROMISES, Role.YIELDING, Role.STANDBY),
    Role.LEADING_BY_PROMISES: (Role.LEADING, Role.YIELDING, Role.STANDBY),
    Role.YIELDING: (Role.LEADING, Role.STANDBY),
}
"""From where one may go where."""
HOLDERS: Final = frozenset({Role.LEADING, Role.LEADING_BY_PROMISES, Role.YIELDING})
RENEWERS: Final = frozenset({Role.LEADING, Role.LEADING_BY_PROMISES})


class Stance:
    """Where a balancer stands. Each method is told what time it is, on the balancer's monotonic clock.

    Parameters
    ----------
    name : str
    lease_s : float
        How long what it promises holds, and what it is promised.
    now : float
    kept_s : float
        How long what it promised before it began holds, as it has written down.

    Attributes
    ----------
    role : Role
    until : float
        Up to when it holds the address, if it does.
    promise : Promise or None
        What it promised last, over or not.
    known : Known or None
        The list of balancers, if it knows one.
    kept_s : float
        What will be known after its end of how long its promises hold.
    """

    def __init__(self, name: str, *, lease_s: float, now: float, kept_s: float) -> None:
        self.name = name
        self.role = Role.STARTING
        self.until = 0.0
        self.promise: Promise | None = None
        self.known: Known | None = None
        self._lease_s = lease_s
        self.kept_s = kept_s
        self._starts_at = now + max(lease_s, kept_s)
        self._prepared: Promise | None = None
        self._round: Round | None = None

    def settle(self, now: float) -> None:
        """See what has ended by itself."""
        ended = {
            Role.STARTING: now >= self._starts_at,
            Role.PREPARED: self._prepared is not None and now >= self._prepared.until,
        }
        if ended.get(self.role, self.role in HOLDERS and now >= self.until):
            self._move(Role.STANDBY)

    def holds(self, now: float) -> bool:
        """Whether the address is this balancer's at this moment."""
        self.settle(now)
        return self.role in HOLDERS

    def promised_to(self, now: float) -> str | None:
        """Return whom it has promised not to take the address, as long as that lasts."""
        return self.promise.to if self.promise is not None and now < self.promise.until else None

    def prepared_by(self, now: float) -> str | None:
        """Return who is about to give it the term."""
        self.settle(now)
        return self._prepared.to if self.role is Role.PREPARED and self._prepared is not None else None

    def learn(self, known: Known) -> None:
        """Take note of a list, if it is a later one.

        Then nothing that was pending can come to be any more: it was to be written over the one known before.
        """
        if self.known is None or known.revision > self.known.revision:
            self.known = known

    def link_of(self, name: str) -> Address | None:
        """Return where another of the list is asked; None where it is not in the list, or has no link."""
        return self.known.links.get(name) if self.known is not None else None

    def alone(self) -> None:
        """Take note that nobody else can ever have been promised anything: there is no other."""
        if self.role is Role.STARTING:
            self._move(Role.STANDBY)

    def hindrance(self, now: float) -> str | None:
        """Tell why it may not ask for the address now, or None."""
        self.settle(now)
        if self.role not in (Role.STANDBY, Role.LEADING_BY_PROMISES):
            return f"is {self.role.value}"
        if to := self.promised_to(now):
            return f"has promised {to} not to take it"
        if self.known is not None and self.known.links and self.name not in self.known.links:
            return "is not in the list of balancers yet: a leader adds it"
        return None

    def campaign(self, now: float) -> None:
        """Begin to ask the store for the term. Who holds by promises holds on meanwhile."""
        assert self.hindrance(now) is None
        if self.role is Role.STANDBY:
            self._move(Role.CAMPAIGNING)

    def won(self, until: float, now: float) -> bool:
        """Hold the address by a lease; the list was read, and names this balancer. Tell whether it does."""
        self.settle(now)
        if self.role not in (Role.CAMPAIGNING, Role.LEADING_BY_PROMISES):
            return False
        self._hold(Role.LEADING, until)
        return self.holds(now)

    def not_won(self) -> None:
        """End a campaign: no term of it will be acted on."""
        if self.role is Role.CAMPAIGNING:
            self._move(Role.STANDBY)

    def renewed(self, until: float, now: float) -> bool:
        """Hold on by a lease that was renewed. Tell whether it still holds: not if it was over meanwhile."""
        self.settle(now)
        if self.role not in RENEWERS:
            return False
        self._hold(Role.LEADING, until)
        return self.holds(now)

    def lease_lost(self) -> None:
        """Let go, unless it is by promises: the lease is over."""
        if self.role is Role.LEADING:
            self._move(Role.STANDBY)

    def let_go(self) -> None:
        """Hold the address no more: it has been dropped, or parked."""
        if self.role in HOLDERS:
            self._move(Role.STANDBY)

    def ask(self, now: float) -> Round | None:
        """Begin to ask all others for their promises; None when that cannot be."""
        self.settle(now)
        if self.known is None or self.name not in self.known.links:
            return None
        if self.role not in RENEWERS:
            if self.hindrance(now) is not None:
                return None
            self._move(Role.ASKING)
        wish = Wish(self.name, self._lease_s, self.role in RENEWERS, self.known)
        self._round = Round(wish, self.known.others(self.name), now)
        return self._round

    def count(self, asking: Round, replies: Mapping[str, Reply], now: float) -> bool:
        """Hold the address, or hold on to it, if all have promised. Tell whether it does."""
        self.settle(now)
        for reply in replies.values():
            if reply.known is not None:
                self.learn(reply.known)
        if self._round is not asking:
            return False
        self._round = None
        if all(name in replies and replies[name].promised for name in asking.asked):
            self._hold(Role.LEADING_BY_PROMISES, max(asking.began + self._lease_s, self.until))
        elif self.role is Role.ASKING:
            self._move(Role.STANDBY)
        return self.holds(now)

    def asked(self, wish: Wish, now: float, *, reaches_store: bool = False) -> Reply:
        """Promise, or tell why not.

        Parameters
        ----------
        wish : Wish
        now : float
        reaches_store : bool
            Whether it is there to be elected by the store. Then it keeps itself free for that, unless the
            address is held: one that does not reach the store would bind it again and again.
        """
        self.settle(now)
        if self.known is None:
            return Reply(False, "knows no list of balancers")
        if wish.known.revision < self.known.revision:
            return Reply(False, "knows a later list of balancers", self.known)
        self.learn(wish.known)
        if why := self._differs(wish) or self._hinders(wish, now):
            return Reply(False, why)
        if reaches_store and not wish.holds and self.role is Role.STANDBY and self.name in self.known.links:
            return Reply(False, "reaches the store, which can elect it")
        if self.role is Role.ASKING or (self.role is Role.PREPARED and not wish.holds):
            self._move(Role.STANDBY)
        self.promise = Promise(wish.name, now + self._lease_s)
        return Reply(True)

    def prepare(self, giver: str, now: float, for_s: float) -> str | None:
        """Be ready to be given the term, or tell why not."""
        if (why := self.hindrance(now)) and self.promised_to(now) != giver:
            return why
        if self.role is not Role.STANDBY:
            return f"is {self.role.value}"
        self._move(Role.PREPARED)
        self._prepared = Promise(giver, now + for_s)
        return None

    def given(self, until: float, now: float) -> bool:
        """Hold the address by a lease that the term was given to. Tell whether it does."""
        self.settle(now)
        if self.role is not Role.PREPARED:
            return False
        self._hold(Role.LEADING, until)
        return self.holds(now)

    def not_given(self) -> None:
        """Be prepared no more."""
        if self.role is Role.PREPARED:
            self._move(Role.STANDBY)

    def give(self, now: float) -> bool:
        """Renew nothing from now on: term or address are about to be given away. Tell whether it holds."""
        self.settle(now)
        if self.role not in RENEWERS:
            return False
        self._move(Role.YIELDING)
        return True

    def keep(self, now: float) -> bool:
        """Go on as before: it is certain that the term was not given away. Tell whether it still holds."""
        self.settle(now)
        if self.role is Role.YIELDING:
            self._move(Role.LEADING)
        return self.holds(now)

    def _differs(self, wish: Wish) -> str | None:
        """Tell in what lease or list differ from those of who asks: by then nothing can be promised."""
        assert self.known is not None
        if wish.lease_s > self._lease_s:
            return f"promises for {self._lease_s:g} s only: let service.lease_s be the same everywhere"
        if self.kept_s < self._lease_s:
            return f"has not written down yet that it promises for {self._lease_s:g} s"
        if self.name not in wish.known.everyone or wish.name not in wish.known.links:
            return "is in another list of balancers"
        if added := self.known.pending.keys() - wish.known.everyone.keys():
            return f"knows of a balancer that is being added: {', '.join(sorted(added))}"
        return None

    def _hinders(self, wish: Wish, now: float) -> str | None:
        """Tell what it does, or has promised, that does not go with a promise; see the proof above."""
        if self.role in HOLDERS or self.role is Role.CAMPAIGNING:
            return f"is {self.role.value}"
        if self.role is Role.PREPARED and self._prepared is not None and self._prepared.to != wish.name:
            return f"is about to be given the address by {self._prepared.to}"
        if wish.holds:
            return None
        if self.role is Role.STARTING:
            return "has just begun, and may have promised something before"
        if self.role is Role.ASKING and self.name < wish.name:
            return "is asking for the address, too"
        if (to := self.promised_to(now)) not in (None, wish.name):
            return f"has promised {to} not to take it"
        return None

    def _hold(self, role: Role, until: float) -> None:
        asking = self._round
        self._move(role)
        self._round = asking  # what is asked while it holds goes on to count
        self.until = max(self.until, until)

    def _move(self, to: Role) -> None:
        """Go from one role to another; what was asked before does not count any more."""
        assert to is self.role or to in MOVES[self.role], f"{self.role} -> {to}"
        self.role = to
        self._round = None
        if to is not Role.PREPARED:
            self._prepared = None
        if to not in HOLDERS:
            self.until = 0.0
