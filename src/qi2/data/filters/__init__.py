"""Curation filters, one file each, behind one registry (report section 2.3)."""
