"""Measured runs of the app against the simulated services."""
