"""ONNX Runtime and CUDA: sessions, KV caches, runners, golden checks. The one room that imports onnxruntime.

Begin with `runner`, which carries out the engine's plans on a CPU; `cuda_runner` does so on a GPU.
"""
