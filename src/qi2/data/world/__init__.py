"""The procedural world: scenes with exact truth, their captions, edits and checkers."""
