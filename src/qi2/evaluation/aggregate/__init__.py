"""Aggregators: the published formulas that make figures of a scorer's answers. Pure: numbers in, numbers out."""
