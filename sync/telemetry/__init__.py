"""The app's work, as operators are told of it. It decides nothing."""
