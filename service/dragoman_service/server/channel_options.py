"""Options of gRPC's core for the public and the admin interface."""

from __future__ import annotations

from typing import Any

from dragoman_service.server.intake import LOOKAHEAD_BYTES, IntakeSettings
from dragoman_service.server.settings import ServerSettings

Options = list[tuple[str, Any]]

ADMIN_INTAKE = IntakeSettings(max_calls=64, max_message_mib=1, message_memory_mib=8, call_memory_mib=16)

_COMMON: Options = [
    # Against callers that open thousands of calls and reset them. Calls of a connection beyond the first limit wait at
    # the caller. Of calls that Python has not looked at, gRPC's core cancels some at random beyond the second limit,
    # and all beyond the third, those of other callers too. Without these limits they would wait for many seconds, and
    # take memory that no limit of ours counts.
    ("grpc.max_concurrent_streams", 200),
    ("grpc.server.max_pending_requests", 2_000),
    ("grpc.server.max_pending_requests_hard_limit", 4_000),
    # As RFC 9113, section 6.5.2, counts them, with 32 bytes for each entry. An entry of four bytes costs 180.
    ("grpc.max_metadata_size", 8_192),
    ("grpc.absolute_max_metadata_size", 8_192),
    # What arrives before a message is read. The probe of the bandwidth would raise it to megabytes for each call.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
    # A caller whose machine vanished says nothing: only a ping without an answer tells, within 40 seconds.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Callers may ping as often, without being taken for abusive.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A connection that never says what it wants, and one that has no calls any more; its client connects again.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),
]


def public_options(settings: ServerSettings, intake: IntakeSettings, *, shares_port: bool = False) -> Options:
    """Options of the public interface. `shares_port`: other processes of this server listen on the same port."""
    options = [
        *_COMMON,
        # Otherwise a second server on the same port would silently take half of the calls.
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_receive_message_length", intake.max_message_mib << 20),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
    ]
    if settings.max_connection_age:
        options += [
            ("grpc.max_connection_age_ms", round(1000 * settings.max_connection_age)),
            ("grpc.max_connection_age_grace_ms", round(1000 * settings.max_connection_age_grace)),
        ]
    return options


def admin_options() -> Options:
    """Options of the admin interface."""
    return [
        *_COMMON,
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", ADMIN_INTAKE.max_message_mib << 20),
        ("grpc.max_allowed_incoming_connections", 64),
    ]
