"""A connection to one etcd member."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from cluster.coordination.protocol import CoordinationUnavailable
from cluster.settings.coordination import Etcd

MESSAGE_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""Largest answer that is read: gRPC's own limit of 4 MiB is less than what a store may hold."""


def opened(endpoint: str, settings: Etcd) -> grpc.aio.Channel:
    """Return a channel, which connects when it is used.

    Raises
    ------
    CoordinationUnavailable
        A certificate cannot be read.
    """
    scheme, _, target = endpoint.partition("://")
    timeout_ms = int(settings.timeout_s * 1000)
    options = (
        ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        # A member that comes back is seen at once: gRPC's own pause between two tries grows to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", timeout_ms),
        ("grpc.max_reconnect_backoff_ms", 2 * timeout_ms),
        # etcd ends connections of who asks more often than every 5 s (--grpc-keepalive-min-time).
        ("grpc.keepalive_time_ms", 6000),
        ("grpc.keepalive_timeout_ms", 2 * timeout_ms),
    )
    if scheme == "http":
        return grpc.aio.insecure_channel(target, options)
    credentials = grpc.ssl_channel_credentials(
        *(
            None if file is None else read(file)
            for file in (settings.ca_file, settings.key_file, settings.certificate_file)
        )
    )
    return grpc.aio.secure_channel(target, credentials, options)


def read(file: Path) -> bytes:
    """Return what a file of the settings holds.

    Raises
    ------
    CoordinationUnavailable
        It cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise CoordinationUnavailable(f"{file}: cannot be read: {error.strerror}") from error
