"""Whether a program that implements `MediaIngest` does what the contract says: the plays, how they are performed, and what they tell of."""

from mediasync.conformance.playing import ConformanceError, Part, Played, perform

__all__ = ["ConformanceError", "Part", "Played", "perform"]
