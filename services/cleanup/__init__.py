"""The clean-up service: deletes at sources what libraries have, and can say why a file is gone or still there.

A file goes only after its intent is in the journal (`store`), its copy in the library was read from the disk and has the hash on record
(`verification`), and the source found it unchanged and of the same hash in the command that deletes it (`sweep`).

What would go is decided by `policy` and its helpers, which know neither a source nor a library, and is kept as a plan (`planning`,
`plan_store`). A run (`runs`) settles first what an earlier one left open (`recovery`), then sweeps its plan batch by batch. What is on
record of a file is asked of the transfer worker (`peers`), which owns that. The service never writes in a library and never deletes there.
"""
