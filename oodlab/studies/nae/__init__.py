"""Studies of "Autoencoding Under Normalization Constraints" (Yoon et al., 2021, arXiv:2105.05735)."""
