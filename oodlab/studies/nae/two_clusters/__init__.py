"""The study of `nae/two_clusters`."""
