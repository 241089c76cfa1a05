"""The built-in catalog: what every file of the library is, what generated it, and where it came from.

A subscriber like any other: it learns of files through `MediaIngest` alone and keeps them in its own database. `Catalog` reads it.
The ingest service hosts it unless MEDIASYNC_CATALOG_ADDRESS names another one; alone it runs with `mediasync serve catalog`.

It is right after any number of repetitions, and also when "processed" comes before "synced". It never looks at the library itself.
"""
