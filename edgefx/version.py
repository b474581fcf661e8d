"""The version of edgefx, apart from the package's own module, which offers the API: any room may read it."""

__version__ = "0.1.0"
