"""Data flywheel: signals of failures, their attribution, and what the next round does about them (report section 2.4)."""
