"""The way to Redis that the live indexes and the cache share: commands gathered, followed, healed."""
