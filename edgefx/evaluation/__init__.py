"""What an artifact lost: paired accuracy against the float baseline."""
