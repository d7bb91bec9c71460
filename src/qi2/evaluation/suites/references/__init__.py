"""Reference pictures of a suite's rows: files beside it, or drawn from a few numbers that stand in the row, so that no picture has to be kept."""
