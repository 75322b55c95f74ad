"""What the openvino runtime is made of. Importing it switches off telemetry, then loads openvino.

openvino and nncf send usage events through the package `openvino_telemetry` and use
a stub when it cannot be imported; nothing here may speak to the network. So openvino
is imported from here and nowhere else first.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

__all__ = ["openvino"]
