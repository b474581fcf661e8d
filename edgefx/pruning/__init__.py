"""Fewer channels: a canonical graph whose MBConv blocks are narrower, made before anything is quantized."""
