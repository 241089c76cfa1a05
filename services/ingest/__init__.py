"""Keeps every event of the library durably, and delivers it to every subscription, at least once.

Owns the event log, the subscriptions with their cursors, and the dead letters. Hosts the built-in catalog, which is an
ordinary subscriber with a database of its own, reached over the same `MediaIngest` contract as anybody else's.

The way of an event: `servicer` takes it from `Events.Publish`, `log` appends it durably and only then answers, `delivery` (one
task a subscription) reads it from the subscription's cursor, offers it to the subscriber, and moves the cursor after the answer.

What it guarantees (invariant I6): an event that was answered for reaches every subscription at least once, always with the same
id and sequence number; events of one file reach a subscription in the log's order; a slow, broken or dead subscriber delays
nobody else. What it does not: that an event comes only once, or that events of different files come in any order.

It never looks into files, and never changes what an event says.
"""
