"""Importers: each turns one library's model into the bundle's plain arrays, or refuses it by name."""
