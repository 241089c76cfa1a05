"""Generated from `protos/mediasync/v1`; see `make protos`."""
