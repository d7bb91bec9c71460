"""What a round does about failures: reinforcement learning, data, prompts (report section 2.4, stage 2)."""
