"""Sweeps: compares the events and the bookings of a mailbox, and finds what no notification told."""
