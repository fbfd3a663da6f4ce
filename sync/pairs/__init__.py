"""One event and its booking: looked at, decided, written, remembered. Start with pair.py."""
