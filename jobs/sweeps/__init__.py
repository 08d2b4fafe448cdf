"""One sweep: a driver that keeps the table of all trials, Ray Tune that schedules them, and each trial's run in a process of Tune.

`driver` holds the sweep's lease and its life; `tune` runs Ray Tune in the driver's main thread, with its `trial_queue` and, for population
based training, `population`. What Tune asks is answered by the `dispatcher`, from the `trial_table`, which says which trials there are,
and `search`, which proposes more. Beside it the `watch` looks for stops and writes `progress`. In Tune's processes a `trial` drives one
run, which may `exploit` another one, and a `group_trial` several, which meet at a `rendezvous`; `trial_run` is what both share.
"""
