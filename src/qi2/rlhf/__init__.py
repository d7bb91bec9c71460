"""Diffusion RL with guidance in the rollout only (report section 4.2)."""
