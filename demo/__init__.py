"""A stand-in for a container with Forge and ComfyUI, and the pictures in it, to see a sync at work with nothing else installed."""
