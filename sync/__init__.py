"""Keeps Dynamics 365 bookings in step with the Outlook events that stand for them."""
