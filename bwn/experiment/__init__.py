"""`bwn experiment`: every scheme with several seeds on one data set; their records, table and plots.

`plan` says which runs there are, `runs` has them done by `worker` processes, `record` keeps what came out. `report` and
`plots` show it and need no torch.
"""
