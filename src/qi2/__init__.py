"""qi2: an open production line for an omni image model, after the Qwen-Image-2.0 report."""
