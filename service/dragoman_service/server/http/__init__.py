"""The HTTP server: `dragoman.v1` as JSON, and the HTTP interfaces of others, on the event loop of the gRPC server.

Begin with `endpoint`, which answers a request with the servicer of `dragoman.v1`. `server` puts the rest together.
"""
