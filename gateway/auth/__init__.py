"""Who is calling: tokens, tickets, revocations, and what a role may do."""
