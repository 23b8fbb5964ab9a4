"""Continuous batching and search: which requests join, what each row is fed, who is done. Pure but for its threads.

No onnxruntime, grpc or asyncio here. Begin with `scheduler`, whose `plan` and `commit` are a step; `engine` is the loop
around it.
"""
