"""Import this before OpenVINO or NNCF: it keeps both from reporting usage over the network.

They do so as soon as they are imported, from a process forked out of a thread, which was seen to deadlock
and to hold the parent's pipes open. They have no switch outside CI, but both go on without the package.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: importing it fails
