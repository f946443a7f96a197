"""Objectives: loss terms, their schedules, and the criterion of a task."""
