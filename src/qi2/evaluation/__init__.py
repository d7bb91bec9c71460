"""Held-out suites, exact checkers, intervals and the static report."""
