"""The teacher: its configuration, its fine-tuning, and the cache of its logits."""
