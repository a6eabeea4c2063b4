"""Notebooks run in batches, here or on a cluster, and trainings run by torchrun; a notebook is a file here, no more.

command     the `oodlab` command           train       one training, alone or as one of torchrun's processes
notebook    files and their parameters     runner      what is to run, and what is up to date
kernel      one notebook in one process    record      what is remembered of finished runs
cluster     Dask, the driver's side        worker      Dask, a worker's side
"""
