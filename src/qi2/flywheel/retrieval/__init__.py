"""What the training data hold near a prompt or a picture: a vector index, a run's corpus in it, and the check that nothing held out gets into training."""
