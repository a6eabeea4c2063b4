"""Studies of "On Out-of-distribution Detection with Energy-based Models" (Elflein et al., 2021, arXiv:2107.08785)."""
