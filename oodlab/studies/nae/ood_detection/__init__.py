"""The study nae/ood_detection: its setting."""
