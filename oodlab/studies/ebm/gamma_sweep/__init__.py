"""The study ebm/gamma_sweep: its setting."""
