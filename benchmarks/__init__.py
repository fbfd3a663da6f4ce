"""What the app spends: calls, time, memory; measured beside the original and the least that is possible."""
