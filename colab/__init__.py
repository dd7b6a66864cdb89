"""The project in Google Colab: a simulated machine to try every notebook on, and the links that open them there.

No part of the package: `make colab` and `make badges`.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = "notebooks"
