"""What every process stands on: bootstrap, interceptors, channels, telemetry, the data folder and named crash points.

It never holds business rules, and never imports `services`.
"""
