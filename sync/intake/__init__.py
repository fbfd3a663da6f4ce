"""From a service's POST to one message for each event that needs a run."""
