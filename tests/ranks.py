"""Being one of two processes, as torchrun starts them."""

import os


def become(rank: int, port: int) -> None:
    """Set what torchrun tells a process; torch reads it when the processes join."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
