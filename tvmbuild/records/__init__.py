"""Tuning records: what a build reads of tuning."""
