"""One file per stage: config in, one qi2 call, results out."""
