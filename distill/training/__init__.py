"""Training of students, controls and teachers by Lightning, and inference over a split."""
