"""Where latency is measured; the host is the first device."""
