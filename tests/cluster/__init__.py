"""Many nodes and real servers: a crowd of clients, faults by name, and what must hold whatever happens."""
