"""Export of a run's models for other runtimes, one file per format, each export checked."""
