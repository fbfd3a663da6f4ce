"""What no notification told: the events and the bookings of a mailbox compared."""
