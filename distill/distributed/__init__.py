"""Training in several processes: the first runs the main flow, the others help inside training.

The main flow runs in one process only, so nothing outside of training asks for a rank. Where
several processes are needed, :meth:`ProcessLauncher.run_on_all_ranks` calls a function in all of
them and tells each its :class:`ProcessRank`.
"""
