"""Builds the real thing: clients.py what talks to the outside, app.py what the app does with it."""
