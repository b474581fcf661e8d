"""What `edgefx.pipeline` runs: inputs, artifacts one by one, and what a run notes down on its way."""
