"""Localization by any method, its evaluation, and the tuning of its thresholds.

The training loop imports ``evaluation.localize`` alone, so that validation scores what ``ris evaluate --method network`` does.
"""
