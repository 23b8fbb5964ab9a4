"""ONNX Runtime without its telemetry. Other modules import `onnxruntime` from here.

The wheel for Linux asks name servers for a host of Microsoft's, and writes a device id and a database of events into
`~/.cache/Microsoft`. It reads the variable that turns this off when it is imported; a later call has no effect.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
