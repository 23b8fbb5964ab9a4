"""Keys of gRPC metadata that the interface uses."""

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata in which gRPC carries a serialised `google.rpc.Status`."""
REQUEST_ID_KEY = "x-request-id"
"""Metadata of a call in either direction: the id under which the server's log has it."""
