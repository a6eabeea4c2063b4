"""Studies of "Improving normalizing flows with the approximate mass" (Chali et al., CVPRW 2023)."""
