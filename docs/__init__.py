"""The documentation pages, and what generates their reference parts."""
