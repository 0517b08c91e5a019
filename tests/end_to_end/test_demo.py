from __future__ import annotations

import json

from tests.integration.deploy.atria import atria


def test_nothing_acknowledged_is_lost_or_out_of_reach() -> None:
    """The demo is the test: it ends with exit code 0 only when each of its steps held."""
    demo = atria("demo", "--json", timeout_s=110)
    steps = json.loads(demo.stdout)["steps"]
    assert [step for step in steps if not step["held"]] == []
    assert demo.returncode == 0
    assert len(steps) == 11
