"""ONNX Runtime: everything that is known of its artifacts. The way in is `runtime`."""
