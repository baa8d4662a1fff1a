"""Linear models and the transforms in front of them."""
