"""One process that serves models: connections, the application, and a request's way through it."""
