"""Examines what a gateway needs, and says what to do: settings, keys, stores, ports, machine."""
