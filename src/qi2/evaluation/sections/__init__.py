"""Sections of the static report: each is a function from a run folder to HTML, listed with its heading in the module's SECTIONS."""
