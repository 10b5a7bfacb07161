"""`python -m withheld` is `withheld`; this is what torchrun starts."""

from __future__ import annotations

from withheld.cli import main

if __name__ == "__main__":
    main()
