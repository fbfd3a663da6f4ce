"""The doctor looks, check by check, whether everything is there that the app needs to work."""
