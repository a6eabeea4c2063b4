"""The study of `nae/eight_gaussians`."""
