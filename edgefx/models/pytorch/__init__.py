"""Weights that were saved by PyTorch: read without it, and given to Keras models of the same architecture."""
