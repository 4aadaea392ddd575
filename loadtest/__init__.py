"""Measures the gateway against a floor written in C and against a plain Starlette endpoint, in one run."""
