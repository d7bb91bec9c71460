"""What every part stands on: errors, randomness, publishing, progress, reporting, timing."""
