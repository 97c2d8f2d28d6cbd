"""Being one of two processes, as torchrun starts them."""

import os


def as_rank(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells a process by its environment."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def become(rank: int, port: int) -> None:
    """Take the place of a rank; torch reads the environment when the processes join."""
    os.environ |= as_rank(rank, port)
