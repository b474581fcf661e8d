"""`edgefx debug`: where accuracy is lost, by stage and by layer."""
