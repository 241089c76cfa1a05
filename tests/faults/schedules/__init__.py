"""Random schedules of faults: what may go wrong in a sync, in any order, and what must hold all the same."""
