"""The version of this package."""

from typing import Final

VERSION: Final = "1.0.0"
