"""Which models an evaluation compares and how each is sampled. Torch-free."""

LABELS = {
    "pretrain": "base",
    "continual": "continual",
    "sft": "SFT",
    "rlhf": "RL",
    "teacher": "RL, many steps",
    "distill": "4-step student",
    "teacher_4step": "RL at 4 steps",
    "untrained_4step": "RL re-noised, 4 steps",
}
CHAIN = ("pretrain", "continual", "sft", "rlhf")
