"""Where a file goes wrong: layer by layer, each beside what its precision does to that very layer."""

from trial.locate.locate import located

__all__ = ["located"]
