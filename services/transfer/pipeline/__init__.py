"""Looks into a file that is in the library: is it what it says, and what made it.

A file passes through stages in a fixed order (`stages.STAGES`); each adds to the facts known of it. The stages run in a process of
their own (`worker.PipelineWorker` is its front), so that neither their CPU time nor a decoder that crashes touches a transfer.

This package never writes to the library, knows no gRPC, no SQL and no SSH (`messages.py` alone knows protobuf), and takes every byte
it reads for hostile: bounded in size, depth, count, pixels and time.
"""
