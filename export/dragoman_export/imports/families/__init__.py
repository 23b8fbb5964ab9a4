"""Families of models. Each module is a table of their names and switches, and reads a folder to `Imported`."""
