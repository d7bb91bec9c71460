"""Small models that the line trains itself where no pretrained path is given."""
