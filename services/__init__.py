"""The processes, one sub-package each. They never import one another."""
