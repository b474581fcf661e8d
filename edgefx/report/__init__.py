"""One typed result, many renderers."""
