"""The node agent: writes the planned connections of one node's pods into their network namespaces."""
