"""What has to be so before the app can work, looked at check by check."""
