"""ONNX Runtime and CUDA: sessions, KV caches, runners, golden checks. The only package that imports onnxruntime.

Begin with `runner`, which executes the engine's plans on a CPU. `cuda_runner` does so on a GPU.
"""
