"""What the documentation tells an operator to write is a cluster."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from deploy.render import cluster_file, tree

PAGE = Path(__file__).parents[3] / "docs" / "several-hosts.md"


def test_the_documented_file_can_be_rendered(tmp_path: Path) -> None:
    written = PAGE.read_text("utf-8").partition("```toml\n")[2].partition("```")[0]
    file = tmp_path / "cluster.toml"
    file.write_text(written, "utf-8")
    planned = tree.plan(cluster_file.load(file), tmp_path, datetime.now(UTC))
    assert {path.parts[0] for path in planned} >= {"lb1", "lb2", "s1", "s2", "s3"}
