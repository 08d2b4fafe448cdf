"""Keras layers made by hand, and what the recurrent models share."""
