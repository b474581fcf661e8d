"""Files: written atomically, hashed, serialized; temporary folders, and what a full disk means."""
