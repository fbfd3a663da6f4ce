"""What the queues carry, and what becomes of a message."""
