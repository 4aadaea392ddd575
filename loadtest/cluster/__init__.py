"""A cluster on one machine: Postgres, Redis, gateway nodes and a load balancer. `make cluster`."""
