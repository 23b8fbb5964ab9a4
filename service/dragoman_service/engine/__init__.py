"""Admission, continuous batching and search: which requests join, what each row is fed, who is done.

No onnxruntime, grpc or asyncio here. Begin with `messages`, which is the whole interface. `engine` admits; `lane` is
the loop of steps; `scheduler` decides, and its `plan` and `commit` are a step.
"""
