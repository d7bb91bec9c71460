"""The one training loop (Lightning): trainer, optimiser, EMA, checkpoints."""
