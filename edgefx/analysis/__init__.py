"""Where accuracy is lost: per stage and per layer."""
