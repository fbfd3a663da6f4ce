"""The app's storage account: queues, tables, and what is kept in them."""
