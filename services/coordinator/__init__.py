"""The coordinator: the clients' one address. It takes jobs, runs them durably, and says what became of them.

It owns the jobs, the named sources, what is known of schedules, the request ids that were answered, and the record of which step of a
job is done. It never touches a source, the library, a manifest or the event log: it asks the transfer worker, the cleanup service, the
event log and the progress service, and relays what they say. It may be killed at any point; started again, it goes on with every job
where it was.

    servicer     messages -> domain calls            jobs         what a client can ask of jobs; the engine's interface
    sources      named sources                       workflow     the engine: jobs as durable workflows
    validation   every wrong field at once           steps        what the steps of a sync do
    store        the only SQL                        peers        the other services, as the steps see them
    watch        following a job to its end          reporting    what the coordinator tells the progress service
    relay        other services' read-only calls     holding      keeps a one-shot supervisor alive while jobs run
    terms        what the steps are given            pausing      holding the work of a job, and letting it go on
    standing     sources watched under `up`          watch_notes  what watches are at, and what they have brought
    course       which steps, in which order         outcomes     what becomes of steps, and what it makes of the job
    cleaning     the clean-up of a job               cleanups     which clean-up a client means
    cleanup_peer the cleanup service                 cleaning_servicer   the servicer's part for clean-ups and schedules
    schedules    what is begun at its times          plans        what the configuration schedules
    schema, rows, schedule_store, workflow_store     the tables, how jobs are kept in them, and DBOS's own database
"""
