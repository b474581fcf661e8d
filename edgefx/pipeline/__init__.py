"""What a recipe asks for, planned and carried out: stages, their cache, and the use cases that run them."""
