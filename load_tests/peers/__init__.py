"""The endpoint beside other people's servers: same model, same requests, one table."""
