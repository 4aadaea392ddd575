"""The live indexes of many nodes, in Redis."""
