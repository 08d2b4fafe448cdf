"""Sweeps: a driver that keeps the books of all trials, Ray Tune that schedules them, and each trial's run in a process of Tune.

`driver` holds the sweep's lease, `books` which trials there are, `search` what is tried next; `tune_run` starts Tune with its
`trial_queue` and, for population based training, `population` and `take_over`. In Tune's processes a `trial` drives one run and a
`company_trial` several, which train together; `trial_runs` is what both share.
"""
