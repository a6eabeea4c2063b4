"""The study mass/epoch_curves: its setting and its panel."""
