"""Degradation strategies, one file each: how users write less than they want."""
