"""A generator for rates that Locust cannot make."""
