"""Real Postgres and Redis servers for tests, load runs and the cluster on one machine, and faults between."""
