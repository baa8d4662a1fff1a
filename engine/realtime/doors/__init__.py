"""What an endpoint speaks: how requests are read, and how answers and errors are written."""
