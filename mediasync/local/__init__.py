"""All services on one machine: the supervisor behind `mediasync up`, and how a command finds it or starts a short-lived one.

`supervisor` is a process of its own and light on purpose: this package imports the standard library, `mediasync.errors` and
`mediasync.runtime.home`, and never gRPC.
"""
