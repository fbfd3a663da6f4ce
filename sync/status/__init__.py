"""What people are shown of the app; decides nothing."""
