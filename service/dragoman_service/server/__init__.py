"""gRPC and HTTP servers, their servicers, metrics and health. Imports translation and what lies below it.

Begin with `server`, which starts and stops everything, then `servicer` for one call and `call_lifecycle` around it.
"""
