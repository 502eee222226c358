"""Tests that run inside a process with Ray: see test_on_ray.py."""
