"""Scorers: who looks at the pictures. One protocol each for detectors, readers, question answering, similarity and judges."""
