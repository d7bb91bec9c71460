"""Five reward models from preference pairs (report section 4.2)."""
