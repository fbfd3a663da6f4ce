"""What runs the app here: a small Functions host, Azurite, child processes."""
