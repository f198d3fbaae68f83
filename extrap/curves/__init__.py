"""Forecasting learning curves; usable without the rest of the project."""
