"""The points of a search space, and the trials that were made of them."""
