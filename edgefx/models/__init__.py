"""From a zoo name or a file to the deployable (canonical) graph."""
