"""Subscribers that come with the product: each is a `MediaIngest` server with a database of its own, like an outsider's."""
