"""What an endpoint counts, and how it is shown."""
