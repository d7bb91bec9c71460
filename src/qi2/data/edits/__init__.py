"""Editing pairs made from any photographs by exact operations (report 2.1): what changed, and where, is known to the pixel."""
