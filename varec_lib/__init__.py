"""varec: the small library behind the course on video action recognition.

One sub-package per chapter: `data` (1), `models` (2, 3), `training` (4), `evaluation` (5), `predictor` (6).
Importing `varec_lib` loads nothing heavy; torch is imported by the modules that need it.
"""

__version__ = "0.1.0"
