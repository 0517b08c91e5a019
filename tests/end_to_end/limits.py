"""Within what time a new association succeeds again, by how the balancer that led has gone."""

from __future__ import annotations

from typing import Final

from chaos.hosts.failover import Fault

LEASE_S: Final = 3.0
LIMITS_S: Final = {
    Fault.KILLED: LEASE_S + 1,
    Fault.STOPPED: LEASE_S + 1,
    Fault.CUT_OFF: LEASE_S + 1,
    Fault.UNPLUGGED: LEASE_S + 1,
    Fault.OFF: LEASE_S + 1,
    Fault.OFF_WITH_ETCD_LEADER: LEASE_S + 4,
}
