"""The transfer worker: looks at sources, pulls what is new, lands it in the library, and remembers.

It owns the manifest (what was taken from where), the library index (what is in the library), and the outbox of events. It never
deletes at a source, never replaces or deletes a library file, and never knows about jobs: a job is the coordinator's.

A folder is synced like this (`folder_sync`): scan -> diff against the manifest (`diff`) -> spool of wanted files (`spool`) -> pull
over several connections into staging files (`pull`, `staging`) -> group fsync, intent, rename without replacing (`landing`) ->
manifest row, index row, event and processing task in one transaction (the `*_store` modules, the only ones with SQL). Behind that,
off the transfer's path, run the media stages (`processing`) and the outbox (`mediasync.runtime.outbox`).
"""
