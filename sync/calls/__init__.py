"""The parts that every call to a service shares: answers understood, short waits, pauses, pace, credentials."""
