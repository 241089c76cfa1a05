"""Reads the library's events from a notebook, or from behind NAT: no server, no open port. `python notebook_pull.py [--follow]`

The services keep the place of the cursor named `notebook`; what was not acknowledged comes again. Paste it cell by cell.
"""

# %%
import asyncio
import sys
from collections import Counter

from mediasync import Client
from mediasync.model.events import EventFilter, EventStart, EventType, StartKind
from mediasync.paths import display

CURSOR = "notebook"
follow = "--follow" in sys.argv  # otherwise it ends at the log's end
models = Counter()


# %%
async def read():
    """Counts pictures by model, and prints prompts as they come."""
    only = EventFilter(types=(EventType.FILE_PROCESSED,))
    async with Client() as client:
        # Where to start counts for a cursor that is new; later calls go on where the last acknowledgement was.
        pages = client.read_events(CURSOR, start=EventStart(StartKind.BEGINNING), wanted=only, follow=follow)
        async for page in pages:
            for event in page.events:
                found = event.file.metadata
                if found:
                    models[found.model] += 1
                    print(display(event.file.library_path), "|", display(found.prompt.encode())[:80])
            if page.token:
                await client.ack_events(CURSOR, page)  # these do not come again


# %%
asyncio.run(read())  # in a notebook: await read()
print(dict(models))
