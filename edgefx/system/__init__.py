"""This machine: its CPU, memory, installed packages, and the files that come with edgefx."""
