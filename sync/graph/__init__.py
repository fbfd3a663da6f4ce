"""Microsoft Graph: events, subscriptions, notifications, and their JSON as our values."""
