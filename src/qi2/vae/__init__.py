"""VAE training (report section 3.1)."""
