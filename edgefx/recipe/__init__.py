"""What the user wants, as YAML or as flags."""
