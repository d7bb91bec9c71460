"""What a recipe needs on given cards: memory, work, time and cost of every training stage, before anything is trained."""
