"""Candidates for the training data, and the page on which a person accepts, edits or rejects them."""
