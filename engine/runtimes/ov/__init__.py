"""What the openvino runtime is made of. Importing it first switches off telemetry.

openvino and nncf send usage events through the package `openvino_telemetry` and use
a stub when it cannot be imported; nothing here may speak to the network.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
