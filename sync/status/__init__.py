"""The status of the app, as people are shown it. It decides nothing."""
