"""Captions by a vision-language model in four schemes: general, text, knowledge, structured (report 2.2); exact ones where the scene is known."""
