"""From a committed message to every attachment of its session: order, holes, delivery."""
