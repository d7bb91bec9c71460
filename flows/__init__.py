"""Prefect flows: one file per journey."""
