"""Settings of sites that are buckets."""

from __future__ import annotations

from cluster.settings import Site


def bucket_site(name: str = "a", **more: object) -> Site:
    return Site.model_validate(
        {
            "name": name,
            "objects": "s3://images",
            "catalogue": f"sqlite:////srv/{name}/catalogue.sqlite",
            "endpoint": f"https://minio-{name}.example:9000",
            **more,
        }
    )
