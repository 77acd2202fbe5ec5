"""Readers of MMPose's zoo table, one a kind of fact; `tools/make_zoo.py` puts them together."""
