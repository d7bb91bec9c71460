"""Suites: what a model is asked, who looks at its pictures, and which published formula makes figures of the answers."""
