"""What generated a file, and how: carriers say which texts a file holds, detectors what those texts mean.

A generator is one module with a detector, and a line in `detectors.DETECTORS`.
"""
