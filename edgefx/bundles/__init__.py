"""Bundles: what a run made, in one archive that says what it is and can be checked."""
