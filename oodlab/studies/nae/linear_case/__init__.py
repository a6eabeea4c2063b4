"""The study of `nae/linear_case`."""
