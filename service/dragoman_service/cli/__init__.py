"""The command line. May import every other package of dragoman_service; only command lines import it.

Begin with `main`, which finds the commands; `serve` turns arguments into settings and starts a server.
"""

import os

# gRPC's core reads this when it is imported. It would write busy ports and failed handshakes to stderr beside the
# messages of the commands, and what callers say at the end of their connections, which could forge lines of the log.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
