"""Time limits of the drills."""

from __future__ import annotations

from typing import Final

from chaos.hosts.failover import Fault

LEASE_S: Final = 3.0
PATIENCE_S: Final = 15.0
"""How long a new association may take that nothing may refuse: processes that start, and links that are
full, make all others wait on cores that all hosts share. How long none succeeded has limits of its own."""
LIMITS_S: Final = {
    Fault.KILLED: LEASE_S + 1,
    Fault.STOPPED: LEASE_S + 1,
    Fault.CUT_OFF: LEASE_S + 1,
    Fault.UNPLUGGED: LEASE_S + 1,
    Fault.OFF: LEASE_S + 1,
    Fault.OFF_WITH_ETCD_LEADER: LEASE_S + 4,
}
"""Within what time a new association succeeds again, by how the balancer that led has gone."""
