"""Executors over several processes: pipeline, tensor parallel and replicas behind one Executor.

    SpreadExecutor ─ Group (a replica) ─ Peer ── socket ── worker process (engine.executors.spread.worker)
                                       └ Peer ── socket ── worker process

The driver never loads torch. Commands and answers travel over sockets of its own;
what ranks of a group say to each other goes through torch.distributed (gloo). On several hosts
the workers are not below it, but its connections to them are the same: see cluster.
"""

CONNECTION = "SPEEDRAIL_CONNECTION"
"""In the environment of a rank on one of several hosts: the number of its connection to the driver."""
