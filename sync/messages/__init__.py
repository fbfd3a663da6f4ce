"""The messages of the queues, and their end: done, put back, or parked."""
