"""The one place that awaits a store for a connection."""
