"""A stand-in for Microsoft Graph, Dataverse and the Functions host, for development and tests only."""
