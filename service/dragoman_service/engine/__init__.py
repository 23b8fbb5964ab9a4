"""Admission, continuous batching and search: which requests join, which token each row is fed, which requests end.

This package imports no onnxruntime, grpc or asyncio. Begin with `messages`, which is the whole interface. `engine`
admits calls. `lane` is the loop of steps. `scheduler` plans each step (`plan`) and applies its result (`commit`).
"""
