"""edgefx: from a Keras EfficientNet to an edge artifact whose accuracy and speed are known."""

__version__ = "0.1.0"
