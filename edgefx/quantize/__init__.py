"""Ranges and corrections that make INT8 work on EfficientNet."""
