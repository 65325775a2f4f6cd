"""`bwn experiment`: every scheme with several seeds on one data set; records, table and plots.

`paper` plans the runs (`jobs`), has worker processes do them (`worker_pool`, `worker`, `run_job`)
and keeps the results (`record`). `groups`, `report` and `plots` show them and need no torch.
"""
