"""From margins to scores, and what is made of scores afterwards."""
