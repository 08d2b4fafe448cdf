"""One sweep: a driver that keeps the table of all trials, Ray Tune that schedules them, and each trial's run in a process of Tune.

`driver` holds the sweep's lease, `trial_table` says which trials there are, `search` what is tried next; `tune` runs Ray Tune with its
`trial_queue` and, for population based training, `population` and `exploit`. In Tune's processes a `trial` drives one run and a
`group_trial` several, which train together; `trial_run` is what both share.
"""
