"""What is told of the app's work to operators; decides nothing."""
