"""`python -m sync COMMAND`: what operators type. Nothing in Azure imports it."""
