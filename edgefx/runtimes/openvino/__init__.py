"""OpenVINO: everything that is known of its artifacts. The way in is `runtime`."""

from edgefx.runtimes.openvino import offline as offline  # before any module here can import OpenVINO
