"""Jobs of all kinds and with all options, for properties that hold for each."""

from pathlib import Path

from hypothesis import strategies as st

from service.cluster.base import Job
from service.cluster.driver_jobs import DRIVERS

JOBS = st.builds(
    Job,
    kind=st.sampled_from(sorted(DRIVERS)),
    run_id=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True),
    store_url=st.sampled_from(["s3://bucket/lab", "/home/me/a b", "s3://bucket/c?endpoint_override=http://localhost:9000"]),
    folder=st.sampled_from([Path("/home/me"), Path("/home/me/a --run b"), Path("package:0a1b")]),
    resume=st.booleans(),
    spec_changes=st.none() | st.just('{"name": "a \'b\' --store $HOME"}'),
    supervised=st.booleans(),
    retries=st.integers(0, 99),
)
"""With words that look like options."""
