"""The people of the simulated company, and what they do."""
