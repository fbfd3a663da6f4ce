"""Settings: reads them from the environment, and names every one that is missing or wrong, with its cure."""
