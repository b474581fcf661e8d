"""How fast an artifact runs, measured in processes of its own."""
