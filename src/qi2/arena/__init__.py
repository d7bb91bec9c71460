"""Blind pairwise preference, as the report measures its models (section 5.1: LMArena): pairs, people's and judges' votes, Bradley-Terry ratings. Torch-free."""
