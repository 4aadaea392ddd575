"""Text as people read it: where it may be cut, and where its sentences end. Pure."""
