"""From folders of images to the identical tensors that every runtime is fed."""
