"""Where signals come from: evaluations, drawn training prompts, training's own pictures, and votes. Deterministic: the same files give the same signals."""
