"""Quantization-aware training; it knows no runtime."""
