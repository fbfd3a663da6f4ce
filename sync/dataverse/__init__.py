"""Dataverse: what is asked of it, what is written to it, and its JSON as our values."""
