"""Interfaces of others, so that their clients run unchanged: mappings to the messages of `dragoman.v1` and back.

Begin with `backend`, which says what an interface calls. Each interface is a folder of pure functions between its
messages and those of `dragoman.v1`, and of a servicer or routes that apply them. `catalogue` lists those of gRPC. They
import the protocols, `text` and `errors`: `server` registers them, and admits, counts and times their calls as its own.
"""
