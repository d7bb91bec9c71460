"""The data flywheel: failures are collected, attributed to a track, and repaired in the next round (report section 2.4)."""
