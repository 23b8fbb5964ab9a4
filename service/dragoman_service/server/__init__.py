"""gRPC and HTTP servers, their servicers, metrics and health. Imports `translation` and the packages below it.

Begin with `server`, which starts and stops everything. `servicer` answers a call, `call_lifecycle` is around each call.
"""
